// ranks: 1 2 4
// The memory that is planned for a rank is what its arenas hold, to the byte, for every segment.
#include <gtest/gtest.h>

#include <vector>

#include "model/train/training_memory.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

// Every mesh of this world with every combination of the options that memory depends on. 509 rows divide among no
// number of ranks.
std::vector<TinyOptions> Cases() {
  std::vector<TinyOptions> cases;
  for (const int tensor : {1, 2, 4}) {
    if (World().size() % tensor != 0) continue;
    for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      for (const int bits : Switches(4)) {
        for (const int head : {0, 1, 2}) {
          TinyOptions options;
          options.tensor = tensor;
          options.data = World().size() / tensor;
          options.precision = precision;
          options.sequence_parallel = (bits & 1) != 0;
          options.shard_optimizer = (bits & 2) != 0;
          options.recompute = (bits & 4) != 0;
          options.micro_batch = (bits & 8) != 0 ? 1 : 0;
          options.tied = head == 1;
          options.head_rank = head == 2 ? 5 : 0;
          cases.push_back(options);
        }
      }
    }
  }
  return cases;
}

void ExpectSame(const MemoryBytes& planned, const MemoryBytes& held) {
  EXPECT_EQ(planned.weights, held.weights);
  EXPECT_EQ(planned.gradients, held.gradients);
  EXPECT_EQ(planned.optimizer, held.optimizer);
  EXPECT_EQ(planned.activations, held.activations);
  EXPECT_EQ(planned.head, held.head);
  EXPECT_EQ(planned.decomposition, held.decomposition);
  EXPECT_EQ(planned.tokens, held.tokens);
  EXPECT_EQ(planned.scratch, held.scratch);
}

TEST(TrainingMemory, PlanEqualsTheArenasOfEveryRank) {
  for (const TinyOptions& options : Cases()) {
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    const MemoryBytes planned =
        PlanTrainingMemory(TinyConfig(options), replica.mesh().tensor_rank(), Device::kCpu).bytes();
    ExpectSame(planned, replica.model().memory());
    for (const int64_t bytes : {planned.weights, planned.gradients, planned.optimizer, planned.activations,
                                planned.head, planned.decomposition}) {
      EXPECT_GT(bytes, 0);
    }
  }
}

// With a wide head that memory is gigabytes.
TEST(TrainingMemory, ARunThatNeverMeasuresItsHeadHoldsNothingForThat) {
  TinyOptions options;
  options.data = World().size();
  options.measured = false;
  Replica replica(options, &World());
  const MemoryBytes planned = PlanTrainingMemory(TinyConfig(options), 0, Device::kCpu).bytes();
  EXPECT_EQ(planned.decomposition, 0);
  ExpectSame(planned, replica.model().memory());
  EXPECT_TRUE(replica.model().Rehearse().ok());
  EXPECT_TRUE(replica.Step(1).applied);
  // A dump alone makes the run measure its head.
  proto::RunConfig dumped = TinyConfig(options);
  dumped.mutable_telemetry()->set_dump_step(1);
  EXPECT_GT(PlanTrainingMemory(dumped, 0, Device::kCpu).bytes().decomposition, 0);
}

// The comparison above would notice: each option changes what is held.
TEST(TrainingMemory, OptionsChangeWhatIsPlanned) {
  const auto plan = [](const TinyOptions& options, int rank = 0) {
    return PlanTrainingMemory(TinyConfig(options), rank, Device::kCpu).bytes();
  };
  TinyOptions options;
  options.tensor = options.data = 2;
  options.precision = proto::PrecisionConfig::BF16;
  const MemoryBytes base = plan(options);
  const auto with = [&](auto change) {
    TinyOptions changed = options;
    change(changed);
    return plan(changed);
  };
  EXPECT_LT(with([](TinyOptions& o) { o.shard_optimizer = true; }).optimizer, base.optimizer);
  EXPECT_LT(with([](TinyOptions& o) { o.recompute = true; }).activations, base.activations);
  EXPECT_NE(with([](TinyOptions& o) { o.sequence_parallel = true; }).activations, base.activations);
  EXPECT_LT(with([](TinyOptions& o) { o.micro_batch = 1; }).activations, base.activations);
  EXPECT_LT(with([](TinyOptions& o) { o.tied = true; }).weights, base.weights);
  EXPECT_LT(with([](TinyOptions& o) { o.head_rank = 5; }).decomposition, base.decomposition);
  EXPECT_GT(with([](TinyOptions& o) { o.precision = proto::PrecisionConfig::FP32; }).weights, base.weights);
  // 255 and 254 of 509 rows.
  EXPECT_GT(base.weights, plan(options, 1).weights);
  EXPECT_EQ(PlanLargestTrainingMemory(TinyConfig(options), Device::kCpu).bytes(), base);
}

// A machine without a GPU knows the memory that one will hold.
TEST(TrainingMemory, OfAGpuIsKnownWithoutOne) {
  TinyOptions options;
  options.precision = proto::PrecisionConfig::BF16;
  const TrainingMemory memory = PlanTrainingMemory(TinyConfig(options), 0, Device::kCuda);
  EXPECT_EQ(memory.bytes().scratch, 64 << 20);
  EXPECT_EQ(memory.bytes().tokens, 2 * 8 * 8 * 4);  // ids and targets of 8 sequences of 8 tokens
  int64_t workspace = 0;
  for (const ArenaLayout::Entry& entry : memory.activations.entries()) {
    if (entry.name == "scratch.attention") workspace = entry.bytes;
  }
  // The workspace serves 4 heads of 8 sequences. It holds gradients of the scores in bf16, with 8 tokens rounded up to
  // blocks of 64 and of 128. It also holds an fp32 statistic of each token, and a mebibyte.
  EXPECT_EQ(workspace, 4 * 8 * 64 * 128 * 2 + 4 * 64 * 4 + (1 << 20));
}

}  // namespace
}  // namespace isthmus::testing
