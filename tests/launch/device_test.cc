// The choice of a device, and whole runs on a GPU where there is one.
#include "runtime/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "launch/choose_device.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

TEST(Device, PeaksAreThoseOfDenseBf16) {
  EXPECT_EQ(DensePeakFlops("NVIDIA H200"), 989.5e12);
  EXPECT_EQ(DensePeakFlops("NVIDIA H100 80GB HBM3"), 989.5e12);
  EXPECT_EQ(DensePeakFlops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(DensePeakFlops("NVIDIA A100-SXM4-80GB"), 312e12);
  EXPECT_EQ(DensePeakFlops("NVIDIA Something New"), 0);
}

TEST(Device, AutomaticallyTheCpuWhereThereIsNoGpu) {
  if (CudaDeviceCount().ok()) GTEST_SKIP() << "there is a GPU";
  const auto world = MakeSelfCommunicator();
  const auto chosen = ChooseDevice(proto::AUTO, proto::PrecisionConfig::FP32, 0, *world, "test");
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->stream.device(), Device::kCpu);
}

TEST(Device, AGpuThatIsNotThereIsRejectedOnAllRanks) {
  if (CudaDeviceCount().ok()) GTEST_SKIP() << "there is a GPU";
  const TinyProject project;
  const std::string config = project.WriteConfig("run");
  for (const int ranks : {0, 2}) {
    const ProgramResult result = RunIsthmus("train --set device=CUDA --config " + config, ranks);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count("device: CUDA: "), 1) << result.out;
    EXPECT_THAT(result.out, HasSubstr("CUDA"));
  }
}

TEST(Device, Fp64IsTheCpus) {
  const auto world = MakeSelfCommunicator();
  const auto chosen = ChooseDevice(proto::AUTO, proto::PrecisionConfig::FP64, 0, *world, "test");
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->stream.device(), Device::kCpu);
  const auto refused = ChooseDevice(proto::CUDA, proto::PrecisionConfig::FP64, 0, *world, "run.textproto");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("run.textproto: device: CUDA: precision.compute FP64"));
}

TEST(Device, EightBitProductsNeedAGpuThatHasThem) {
  CudaDevice device;
  device.name = "NVIDIA A100-SXM4-80GB";
  device.major = 8;
  const absl::Status status = CheckFp8Device(device, "run.textproto");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("run.textproto: precision.fp8_layers: true; NVIDIA A100-SXM4-80GB has compute capability 8.0"));
  device.minor = 9;
  EXPECT_TRUE(CheckFp8Device(device, "run.textproto").ok());
  device.major = 9;
  device.minor = 0;
  EXPECT_TRUE(CheckFp8Device(device, "run.textproto").ok());
}

// The last value of `key` in a run's metrics.
double LastOf(const std::string& run, const std::string& key) {
  double value = -1;
  std::istringstream lines(ReadText(run + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record.contains(key)) value = record[key];
  }
  return value;
}

TEST(CudaRun, TrainsSavesAndSamplesAsTheCpuDoes) {
  const auto count = CudaDeviceCount();
  if (!count.ok()) GTEST_SKIP() << count.status().message();
  const TinyProject project;
  const std::string steps = " --set schedule.steps=3 --set telemetry.interval=1 ";
  const auto train = [&](const std::string& name, const std::string& device, int ranks) {
    const ProgramResult result = RunIsthmus("train" + steps + "--set device=" + device +
                                                " --set mesh.tensor=" + std::to_string(std::max(ranks, 1)) +
                                                " --config " + project.WriteConfig(name),
                                            ranks, 280);
    ASSERT_EQ(result.exit_status, 0) << result.out;
  };
  train("cpu", "CPU", 0);
  train("gpu", "CUDA --set cuda.graph=true", 0);
  train("gpu-two", "CUDA", 2);
  for (const char* key : {"train/loss", "validation/loss", "head/lost_energy_ratio"}) {
    const double expected = LastOf(project / "cpu", key);
    EXPECT_GT(expected, 0) << key;
    EXPECT_NEAR(LastOf(project / "gpu", key), expected, 1e-4 * expected) << key;
    EXPECT_NEAR(LastOf(project / "gpu-two", key), expected, 1e-4 * expected) << key;
  }
  const auto sample = [&](const std::string& device) {
    return RunIsthmus(
        "sample --tokens 4 --temperature 0 --device " + device + " --prompt the --checkpoint " + (project / "gpu-two"),
        0, 280);
  };
  const ProgramResult on_gpu = sample("cuda"), on_cpu = sample("cpu");
  EXPECT_EQ(on_gpu.exit_status, 0) << on_gpu.out;
  EXPECT_EQ(on_gpu.out, on_cpu.out);
}

}  // namespace
}  // namespace isthmus::testing
