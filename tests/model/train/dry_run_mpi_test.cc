// ranks: 2 4
// A dry run records the calls of a real step in the same order. It records every operator with its cost, and every
// collective with its group and bytes.
#include <gtest/gtest.h>

#include "tests/support/mpi_world.h"
#include "tests/support/recorded_step.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

TEST(DryRun, RecordsTheCallsOfARealStep) {
  for (const int tensor : {1, 2, 4}) {
    if (World().size() % tensor != 0) continue;
    for (const int bits : Switches(4)) {
      TinyOptions options;
      options.tensor = tensor;
      options.data = World().size() / tensor;
      options.sequence_parallel = (bits & 1) != 0;
      options.shard_optimizer = (bits & 2) != 0;
      options.recompute = (bits & 4) != 0;
      options.head_rank = (bits & 8) != 0 ? 6 : 0;
      options.precision = (bits & 3) != 0 ? proto::PrecisionConfig::BF16 : proto::PrecisionConfig::FP32;
      options.loss_chunk = options.sequences / options.data * options.sequence_length / 2;
      EXPECT_TRUE(ExpectSameCalls(options, /*measure=*/(bits & 1) == 0));
    }
  }
}

TEST(DryRun, CountsWhatItMakesOnce) {
  TinyOptions options;
  options.data = World().size();
  options.sequences = 4 * options.data;
  options.micro_batch = 1;  // four of them
  options.loss_chunk = 2;   // four of each
  options.precision = proto::PrecisionConfig::BF16;
  for (const bool measure : {false, true}) EXPECT_FALSE(ExpectSameCalls(options, measure));
  options.fp8 = options.tied = true;
  options.width = options.feed_forward = 16;
  options.sequence_length = 16;
  EXPECT_FALSE(ExpectSameCalls(options, /*measure=*/true));
}

}  // namespace
}  // namespace isthmus::testing
