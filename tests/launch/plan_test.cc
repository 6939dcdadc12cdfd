// `isthmus plan` runs on the project's own configurations, and on users' mistakes.
#include "launch/plan/plan.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/config.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ConfigPath(const std::string& name) {
  return absl::StrCat(SourceFolder(), "/launch/configs/", name, ".textproto");
}

proto::RunConfig Load(const std::string& name, const std::vector<std::string>& overrides = {}) {
  auto config = LoadConfig(ConfigPath(name), overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

Plan PlanOf(const std::string& name, int world, const std::vector<std::string>& overrides = {}) {
  auto plan = MakePlan(Load(name, overrides), *GpuMachine("h100"), world, name);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

// Returns the runs of arXiv:2603.10145 by the rank of their head; 0 is full.
std::vector<int64_t> HeadRanks() { return {0, 32, 64, 128, 256, 512, 1024, 2048, 4096}; }
std::string RankOf(int64_t rank) { return absl::StrCat("model.head.rank=", rank); }

TEST(Plan, TheTwoBillionModelsAreThePapersOnOneEightAndSixtyFourGpus) {
  constexpr int64_t kBackbone = 6 * (4 * 4096 * 4096 + 3 * 4096 * 16384) + 13 * 4096, kEmbedding = 49152 * 4096;
  for (const int64_t rank : HeadRanks()) {
    SCOPED_TRACE(rank);
    const int64_t head = rank == 0 ? kEmbedding : rank * (49152 + 4096);
    for (const int world : {1, 8, 64}) {
      const Plan plan = PlanOf("2b", world, {RankOf(rank)});
      EXPECT_EQ(plan.parameters.total(), kBackbone + kEmbedding + head);
      EXPECT_GE(plan.parameters.total(), 1'800'000'000);
      EXPECT_LE(plan.parameters.total() - plan.parameters.head, 2'000'000'000);
      EXPECT_EQ(plan.config.mesh().data(), world);
      EXPECT_EQ(plan.TokensPerStep(), 1 << 20);
      EXPECT_NEAR(static_cast<double>(plan.Tokens()), 11e9, 0.05e9);
      EXPECT_TRUE(plan.Fits()) << plan.RequiredBytes();
      EXPECT_GT(plan.step.time.Total(), 0);
      // A utilisation beyond what any trainer publishes, or below what this one is for, shows that the time model is
      // wrong.
      EXPECT_GT(plan.Utilisation(plan.causal_flops_per_token), 0.4);
      EXPECT_LT(plan.Utilisation(plan.causal_flops_per_token), 0.75);
    }
  }
}

TEST(Plan, EveryConfigurationCanBePlanned) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ConfigPath("x").substr(0, ConfigPath("x").rfind('/')))) {
    if (entry.path().extension() != ".textproto") continue;
    SCOPED_TRACE(entry.path());
    const std::string name = entry.path().stem();
    proto::RunConfig config = Load(name);
    std::vector<std::string> overrides;
    if (config.model().vocabulary() == 0) overrides.push_back("model.vocabulary=4096");  // of the quickstart's corpus
    const Plan plan = PlanOf(name, config.mesh().tensor(), overrides);
    EXPECT_TRUE(plan.Fits());
    ++found;
  }
  EXPECT_GE(found, 3);
}

TEST(Plan, MemoryIsWhatTheFormulasOfThePartsSay) {
  // A parameter with bf16 weights takes 18 bytes: 2, an fp32 gradient, two moments and a master.
  const Plan one = PlanOf("2b", 1);
  const MemoryBytes bytes = one.memory.bytes();
  EXPECT_NEAR(static_cast<double>(bytes.weights + bytes.gradients + bytes.optimizer),
              18.0 * static_cast<double>(one.parameters.total()), 1e5);
  // With ZeRO stage 1 each of eight ranks holds an eighth of the state.
  const MemoryBytes eighth = PlanOf("2b", 8).memory.bytes();
  EXPECT_NEAR(static_cast<double>(eighth.optimizer), static_cast<double>(bytes.optimizer) / 8, 1e5);
  EXPECT_EQ(eighth.activations, bytes.activations);
  EXPECT_FALSE(PlanOf("2b", 1, {"batch.micro_batch=32"}).Fits());
}

TEST(Plan, StagedCheckpointsAreMemoryOfTheHost) {
  const std::string saves = "checkpoint.interval=100";
  EXPECT_EQ(PlanOf("2b", 8, {"checkpoint.interval=0"}).staging_bytes, 0);
  EXPECT_EQ(PlanOf("2b", 8, {saves, "checkpoint.background=false"}).staging_bytes, 0);
  // All but the gradient are 14 bytes of a parameter, and each of eight ranks holds an eighth of them.
  const Plan plan = PlanOf("2b", 8, {saves});
  EXPECT_NEAR(static_cast<double>(plan.staging_bytes), 14.0 / 8 * static_cast<double>(plan.parameters.total()), 1e5);
  EXPECT_EQ(plan.RequiredBytes(), PlanOf("2b", 8, {"checkpoint.interval=0"}).RequiredBytes());
  // If the host is the device, it must fit beside the rest.
  Machine host = plan.machine;
  host.device.device = Device::kCpu;
  const auto required = [&](const std::string& interval) {
    return MakePlan(Load("2b", {"checkpoint.interval=" + interval}), host, 8, "2b")->RequiredBytes();
  };
  EXPECT_EQ(required("100") - required("0"), plan.staging_bytes);
}

TEST(Plan, BestMeshesFitAndAreOrderedAndNotSlower) {
  for (const int world : {8, 64, 1024}) {
    const Plan plan = PlanOf("2b", world, {"batch.sequences=4096"});
    const std::vector<Plan> meshes = BestMeshes(plan, 100);
    ASSERT_FALSE(meshes.empty());
    EXPECT_LE(meshes.front().step.time.Total(), plan.step.time.Total());
    EXPECT_TRUE(std::is_sorted(meshes.begin(), meshes.end(),
                               [](const Plan& a, const Plan& b) { return a.step.time.Total() < b.step.time.Total(); }));
    int own = 0;
    for (const Plan& mesh : meshes) {
      EXPECT_TRUE(mesh.Fits());
      EXPECT_EQ(mesh.config.mesh().tensor() * mesh.config.mesh().data(), world);
      EXPECT_LE(mesh.config.mesh().tensor(), 8);
      own += SameMesh(mesh, plan) ? 1 : 0;
    }
    EXPECT_EQ(own, 1);
  }
  // A network as slow as this makes tensor ranks, which stay within a node, worth their cost.
  Machine slow = *GpuMachine("h100");
  slow.links.node_bytes = 1e9;
  const auto plan = MakePlan(Load("2b"), slow, 64, "");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT(BestMeshes(*plan, 1).front().config.mesh().tensor(), 1);
}

TEST(Plan, ProgramPrintsAndWritesTheSameFigures) {
  const TemporaryFolder folder;
  const std::string json_path = folder / "plan.json";
  const ProgramResult result =
      RunIsthmus(absl::StrCat("plan --config ", ConfigPath("2b"),
                              " --world 16 --set model.head.rank=32 --set mesh.tensor=2 --verbose --json ", json_path));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const auto json = nlohmann::json::parse(ReadText(json_path));
  const Plan plan = PlanOf("2b", 16, {RankOf(32), "mesh.tensor=2"});
  EXPECT_EQ(json.at("parameters").at("total"), plan.parameters.total());
  EXPECT_EQ(json.at("memory_bytes").at("total"), plan.memory.bytes().total());
  EXPECT_EQ(json.at("memory_bytes").at("host_staging"), plan.staging_bytes);
  EXPECT_EQ(json.at("collectives").size(), plan.Collectives().size());
  EXPECT_DOUBLE_EQ(json.at("step_seconds").at("total"), plan.step.time.Total());
  EXPECT_EQ(json.at("mesh").at("tensor"), 2);
  EXPECT_FALSE(json.at("meshes").empty());
  EXPECT_THAT(result.out, HasSubstr("fits: "));
  EXPECT_THAT(result.out, HasSubstr("1,813,696,512"));
  EXPECT_THAT(result.out, HasSubstr("layers.5.feed_forward.gate_up"));
  EXPECT_EQ(result.Count("\n* "), 1) << result.out;
}

TEST(Plan, ProgramSaysWhichStepsWaitForTheSpectrumOfALargeSample) {
  const auto said = [](const char* tokens) {
    return RunIsthmus(absl::StrCat("plan --config ", ConfigPath("2b"), " --world 16 --set batch.sequences=256 ",
                                   "--set telemetry.sample_tokens=", tokens))
        .out;
  };
  EXPECT_THAT(said("1024"), Not(HasSubstr("the spectrum of ")));
  EXPECT_THAT(said("4096"), HasSubstr("the spectrum of 4096 sampled tokens is found beside training, and reported "
                                      "later; the last step and a dumped one wait for it\n"));
  EXPECT_THAT(said("8192"), HasSubstr("the spectrum of 8192 sampled tokens is found beside training, and reported "
                                      "later\n"));
}

TEST(Plan, EightBitLayersAreFasterAndNotForEveryDevice) {
  const std::string fp8 = "precision.fp8_layers=true";
  EXPECT_LT(PlanOf("2b", 1, {fp8}).step.time.Total(), PlanOf("2b", 1).step.time.Total());
  const auto refused = MakePlan(Load("2b", {fp8}), *GpuMachine("a100"), 1, "2b");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.status().message(), HasSubstr("precision.fp8_layers: true; NVIDIA A100"));
}

TEST(Plan, CpuIsMeasured) {
  const ProgramResult result = RunIsthmus(
      absl::StrCat("plan --device cpu --config ", ConfigPath("quickstart"), " --set model.vocabulary=4096 --world 2"));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("2 × this CPU"));
  EXPECT_THAT(result.out, HasSubstr("what this machine reached just now"));
}

TEST(Plan, LinksAndMemoryCanBeGiven) {
  const std::string base = absl::StrCat("plan --config ", ConfigPath("2b"), " --world 16");
  EXPECT_THAT(RunIsthmus(base + " --gpus-per-node 4 --nvlink-gbytes 100 --network-gbytes 25").out,
              HasSubstr("4 to a node; 100 GB/s per device within it, 25.0 GB/s per node"));
  const ProgramResult small = RunIsthmus(base + " --memory-gbytes 10");
  EXPECT_EQ(small.exit_status, 0);
  EXPECT_THAT(small.out, HasSubstr("DOES NOT FIT"));
}

TEST(Plan, WhatIsWrongIsNamed) {
  const auto fails = [](const std::string& arguments, const std::string& message) {
    const ProgramResult result = RunIsthmus("plan " + arguments);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
    EXPECT_EQ(result.Count("isthmus: "), 1) << result.out;
  };
  const std::string full = "--config " + ConfigPath("2b");
  fails(full + " --world 0", "--world: found \"0\"; accepts 1 to");
  fails(full + " --world many", "--world: found \"many\"");
  fails(full + " --device tpu", "--device: found \"tpu\"; accepts h100, h200, a100, cpu");
  fails(full + " --world 3 --set mesh.tensor=2", "mesh.tensor: 2; does not divide the 3 ranks");
  fails(full + " --world 128", "batch.sequences: 256; is not divisible");
  fails(full + " --set precision.compute=FP64", "precision.compute: FP64 runs on the CPU only");
  fails(full + " --set model.heads=31", "model.heads: 31");
  fails(full + " --gpus-per-node 0", "--gpus-per-node: found 0; needs a number above 0");
  fails(full + " --network-gbytes nan", "--network-gbytes");
  fails("--config " + ConfigPath("quickstart"), "model.vocabulary: 0 takes it from the token shards");
  fails("--config /nowhere/x.textproto", "/nowhere/x.textproto");
  fails(full + " --json /proc/nowhere/plan.json", "/proc/nowhere/plan.json");
  fails("", "--config FILE is missing");
}

}  // namespace
}  // namespace isthmus::testing
