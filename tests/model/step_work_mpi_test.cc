// ranks: 2 4
// The collectives that a plan lists are those that a real step calls: how often, in which group, with how many bytes.
#include <gtest/gtest.h>

#include <array>

#include "model/step_work.h"
#include "ops/matmul.h"
#include "runtime/dtype.h"
#include "tests/support/counting_communicator.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

CollectiveCounts Planned(const TinyOptions& options, int tensor_rank) {
  CollectiveCounts counts;
  for (const CollectiveWork& work : WorkOfStep(TinyConfig(options), tensor_rank).collectives) {
    counts[{GroupName(work.group), KindName(work.kind), work.bytes}] += work.calls;
  }
  return counts;
}

// oneDNN multiplies bf16 only on CPUs with AVX-512.
bool HasBf16Products() {
  std::array<BFloat16, 64> a{}, b{};
  std::array<float, 64> c{};
  Stream stream;
  return Matmul({.a = Tensor(a.data(), DType::kBFloat16, 8, 8),
                 .b = Tensor(b.data(), DType::kBFloat16, 8, 8),
                 .c = Tensor(c.data(), DType::kFloat32, 8, 8)},
                stream)
      .ok();
}

TEST(StepWork, CollectivesAreThoseOfARealStep) {
  const auto narrow = HasBf16Products() ? proto::PrecisionConfig::BF16 : proto::PrecisionConfig::FP64;
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
        options.precision = (bits & 3) != 0 ? narrow : proto::PrecisionConfig::FP32;
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
