// ranks: 2 4
// The collectives that a plan lists are those that a real step calls: how often, in which group, with how many bytes.
#include <gtest/gtest.h>

#include "model/train/step_work.h"
#include "tests/support/counting_communicator.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

CollectiveCounts Planned(const TinyOptions& options, int tensor_rank) {
  CollectiveCounts counts;
  for (const CollectiveWork& work : WorkOfStep(TinyConfig(options), tensor_rank, Device::kCpu).collectives) {
    counts[{GroupName(work.group), KindName(work.kind), work.bytes}] += work.calls;
  }
  return counts;
}

TEST(StepWork, CollectivesAreThoseOfARealStep) {
  for (const int tensor : {1, 2, 4}) {
    if (World().size() % tensor != 0) continue;
    for (int bits = 0; bits < 16; ++bits) {
      for (const int64_t head_rank : {0, 6}) {
        TinyOptions options;
        options.tensor = tensor;
        options.data = World().size() / tensor;
        options.sequence_parallel = (bits & 1) != 0;
        options.shard_optimizer = (bits & 2) != 0;
        options.recompute = (bits & 4) != 0;
        options.micro_batch = (bits & 8) != 0 ? 1 : 0;
        options.head_rank = head_rank;
        options.precision = (bits & 3) != 0 ? proto::PrecisionConfig::BF16 : proto::PrecisionConfig::FP32;
        options.loss_chunk = 16;
        SCOPED_TRACE(options.Name());
        CollectiveCounts counts;
        CountingCommunicator world(World(), counts);
        Replica replica(options, &world);
        counts.clear();
        replica.Step(1, /*measure_head=*/true);
        EXPECT_EQ(counts, Planned(options, replica.mesh().tensor_rank()));
        EXPECT_FALSE(counts.empty());
      }
    }
  }
}

}  // namespace
}  // namespace isthmus::testing
