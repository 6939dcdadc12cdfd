// Gradients summed over data ranks in buckets, with whole and with sharded optimizers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "parallel/gradient_reducer.h"
#include "tests/support/mpi_world.h"
#include "tests/support/reference.h"

namespace isthmus::testing {
namespace {

using reference::Buffer;
using reference::Matrix;
using ::testing::HasSubstr;

// Multiples of 12, so that 1, 2, 3 and 4 ranks can share each.
const std::vector<Range> kSegments = {{0, 24}, {24, 60}, {60, 72}, {72, 132}, {132, 144}};
constexpr int64_t kSize = 144;
constexpr int64_t kElement = 4;  // bytes

double GradientOf(int rank, int64_t i) { return static_cast<double>((i * 5 + rank * 7) % 13) - 3; }

Matrix ValuesOf(int rank) {
  Matrix values(1, kSize);
  for (int64_t i = 0; i < kSize; ++i) values(0, i) = GradientOf(rank, i);
  return values;
}

Matrix SumOf(int ranks) {
  Matrix sum(1, kSize);
  for (int rank = 0; rank < ranks; ++rank) {
    for (int64_t i = 0; i < kSize; ++i) sum(0, i) += GradientOf(rank, i);
  }
  return sum;
}

// Bucket sizes that give one bucket per segment, some of several segments, and one for all.
const std::vector<int64_t> kBucketBytes = {1, 40 * kElement, 1 << 20};

TEST(GradientReducer, SumsEverySegmentInBucketsOfAnySize) {
  const int ranks = World().size();
  for (const int64_t bucket_bytes : kBucketBytes) {
    Buffer gradients(DType::kFloat32, 1, kSize);
    auto reducer = GradientReducer::Create(World(), gradients, kSegments, bucket_bytes, /*shard_optimizer=*/false);
    ASSERT_TRUE(reducer.ok()) << reducer.status();
    EXPECT_EQ(std::vector<Range>(reducer->owned().begin(), reducer->owned().end()), std::vector<Range>({{0, kSize}}));
    for (int step = 0; step < 2; ++step) {
      gradients.Set(ValuesOf(World().rank()));
      for (int segment = static_cast<int>(kSegments.size()); segment-- > 0;) {
        ASSERT_TRUE(reducer->SegmentReady(segment).ok());
      }
      ASSERT_TRUE(reducer->Finish().ok());
      EXPECT_EQ(gradients.Get().values, SumOf(ranks).values) << "buckets of " << bucket_bytes << ", step " << step;
    }
  }
}

TEST(GradientReducer, ShardsHaveTheirPartOfTheSumAndGatherWeights) {
  const int ranks = World().size(), rank = World().rank();
  for (const int64_t bucket_bytes : kBucketBytes) {
    Buffer gradients(DType::kFloat32, ValuesOf(rank));
    auto reducer = GradientReducer::Create(World(), gradients, kSegments, bucket_bytes, /*shard_optimizer=*/true);
    ASSERT_TRUE(reducer.ok()) << reducer.status();
    for (int segment = static_cast<int>(kSegments.size()); segment-- > 0;) {
      ASSERT_TRUE(reducer->SegmentReady(segment).ok());
    }
    ASSERT_TRUE(reducer->Finish().ok());

    const Matrix sum = SumOf(ranks), found = gradients.Get();
    Buffer weights(DType::kBFloat16, Matrix(1, kSize, -100));
    Matrix updated = weights.Get();
    int64_t owned = 0, last_end = 0;
    for (const Range& range : reducer->owned()) {
      EXPECT_GE(range.begin, last_end) << "ascending";
      last_end = range.end;
      owned += range.size();
      for (int64_t i = range.begin; i < range.end; ++i) {
        EXPECT_EQ(found(0, i), sum(0, i)) << "element " << i;
        updated(0, i) = static_cast<double>(i);
      }
    }
    EXPECT_EQ(owned, kSize / ranks);
    weights.Set(updated);
    ASSERT_TRUE(reducer->GatherWeights(weights).ok());
    Matrix expected(1, kSize);
    for (int64_t i = 0; i < kSize; ++i) expected(0, i) = static_cast<double>(i);
    if (ranks > 1) {
      EXPECT_EQ(weights.Get().values, expected.values);
    }
  }
}

TEST(GradientReducer, RejectsSegmentsThatDoNotCoverTheArena) {
  Buffer gradients(DType::kFloat32, 1, kSize);
  const auto create = [&](std::vector<Range> segments) {
    return GradientReducer::Create(World(), gradients, segments, 1, true).status();
  };
  EXPECT_TRUE(create(kSegments).ok());
  EXPECT_EQ(create({{0, 24}, {36, kSize}}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(create({{0, 24}}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(create({{12, kSize}}).code(), absl::StatusCode::kInternal);
  if (World().size() > 1) {
    EXPECT_EQ(create({{0, 13}, {13, kSize}}).code(), absl::StatusCode::kInternal);
  }
}

TEST(GradientReducer, FinishBeforeAllSegmentsAreReadyIsAnError) {
  if (World().size() == 1) GTEST_SKIP() << "needs two ranks";
  Buffer gradients(DType::kFloat32, 1, kSize);
  auto reducer = GradientReducer::Create(World(), gradients, kSegments, 1 << 20, false);
  ASSERT_TRUE(reducer.ok());
  ASSERT_TRUE(reducer->SegmentReady(4).ok());
  EXPECT_THAT(reducer->Finish().message(), HasSubstr("1 of 5 segments ready"));
}

}  // namespace
}  // namespace isthmus::testing
