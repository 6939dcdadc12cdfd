#include "launch/choose_device.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <utility>

#include "ops/fp8_matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<ChosenDevice> OpenGpu(int local_rank) {
  ISTHMUS_ASSIGN_OR_RETURN(const int count, CudaDeviceCount());
  ISTHMUS_ASSIGN_OR_RETURN(const CudaDevice device, DescribeCudaDevice(local_rank % count));
  ISTHMUS_ASSIGN_OR_RETURN(Stream stream, OpenCudaStream(device.ordinal));
  return ChosenDevice{std::move(stream), device.name, DensePeakFlops(device.name)};
}

}  // namespace

absl::StatusOr<ChosenDevice> ChooseDevice(proto::DeviceKind device, proto::PrecisionConfig::Kind compute,
                                          int local_rank, Communicator& world, absl::string_view source) {
  const ChosenDevice cpu = {Stream(), "CPU", 0};
  const auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": device: CUDA: ", why, "; accepted here: CPU, or AUTO for GPUs where there are any"));
  };
  const bool fp64 = compute == proto::PrecisionConfig::FP64;
  if (device == proto::CUDA && fp64) return refuse("precision.compute FP64 runs on the CPU");
  if (device == proto::CPU || fp64) return cpu;
  double all_have_one = CudaDeviceCount().ok() ? 1 : 0;
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&all_have_one, 1), Reduction::kMin));
  if (device == proto::AUTO && all_have_one == 0) return cpu;
  auto gpu = OpenGpu(local_rank);
  absl::Status status = gpu.status();
  if (!CudaDeviceCount().ok()) status = refuse(status.message());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, status));
  return gpu;
}

absl::Status CheckFp8Device(const CudaDevice& device, absl::string_view source) {
  if (DoesFp8(device.major, device.minor)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      source, ": precision.fp8_layers: true; ", device.name, " has compute capability ", device.major, ".",
      device.minor, ", 8-bit products need 8.9 or later; set precision.fp8_layers to false, or device to CPU"));
}

double DensePeakFlops(absl::string_view name) {
  struct Peak {
    absl::string_view name;
    double flops;
  };
  // More particular names come first: the PCIe cards are slower than the modules of the same name.
  constexpr Peak kPeaks[] = {{"H100 PCIe", 756e12},  {"H100 NVL", 835e12}, {"H100", 989.5e12},
                             {"H200 NVL", 835.5e12}, {"H200", 989.5e12},   {"GH200", 989.5e12},
                             {"H800", 989.5e12},     {"A100", 312e12},     {"A800", 312e12}};
  for (const Peak& peak : kPeaks) {
    if (absl::StrContains(name, peak.name)) return peak.flops;
  }
  return 0;
}

}  // namespace isthmus
