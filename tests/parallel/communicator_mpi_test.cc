// Collectives over any number of ranks, alone included.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/host_bytes.h"
#include "runtime/philox.h"
#include "tests/support/mpi_world.h"
#include "tests/support/reference.h"

namespace isthmus::testing {
namespace {

using reference::Buffer;
using reference::Matrix;
using ::testing::Each;
using ::testing::HasSubstr;

// The numbers are small integers, exact in every dtype and in every sum here. Every rank has another sequence.
double ValueOf(int rank, int64_t i) { return static_cast<double>((i * 7 + rank * 3) % 11) - 4; }

Matrix ValuesOf(int rank, int64_t count) {
  Matrix values(1, count);
  for (int64_t i = 0; i < count; ++i) values(0, i) = ValueOf(rank, i);
  return values;
}

Matrix SumOf(int ranks, int64_t count) {
  Matrix sum(1, count);
  for (int rank = 0; rank < ranks; ++rank) {
    for (int64_t i = 0; i < count; ++i) sum(0, i) += ValueOf(rank, i);
  }
  return sum;
}

const std::vector<int64_t> kCounts = {0, 1, 17, 5000, 100'003};

TEST(Communicator, AllReduceSumsEveryTypeAndSize) {
  const int ranks = World().size();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32}) {
    for (const int64_t count : kCounts) {
      Buffer data(dtype, ValuesOf(World().rank(), count));
      ASSERT_TRUE(World().AllReduce(data).ok());
      EXPECT_EQ(data.Get().values, SumOf(ranks, count).values) << Name(dtype) << " " << count;
    }
  }
}

TEST(Communicator, AllReduceFindsExtremes) {
  const int ranks = World().size();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32}) {
    Buffer largest(dtype, Matrix(1, 3, World().rank())), smallest(dtype, Matrix(1, 3, World().rank() - 2));
    ASSERT_TRUE(World().AllReduce(largest, Reduction::kMax).ok());
    ASSERT_TRUE(World().AllReduce(smallest, Reduction::kMin).ok());
    EXPECT_THAT(largest.Get().values, Each(ranks - 1));
    EXPECT_THAT(smallest.Get().values, Each(-2));
  }
}

TEST(Communicator, EveryRankReceivesTheSameBits) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    Buffer data(dtype, reference::Normal(1, 4999, static_cast<uint32_t>(World().rank())));
    ASSERT_TRUE(World().AllReduce(data).ok());
    std::string bytes = data.Bytes();
    const std::string own = bytes;
    ASSERT_TRUE(BroadcastBytes(World(), bytes, 0).ok());
    EXPECT_TRUE(bytes == own) << Name(dtype);
  }
}

TEST(Communicator, ReduceScatterLeavesEachRankItsBlock) {
  const int ranks = World().size(), rank = World().rank();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    for (const int64_t count : {int64_t{1}, int64_t{513}}) {
      const Matrix sum = SumOf(ranks, count * ranks);
      const auto begin = sum.values.begin() + rank * count;
      const std::vector<double> expected(begin, begin + count);
      const Buffer input(dtype, ValuesOf(rank, count * ranks));
      const Buffer output(dtype, 1, count);
      ASSERT_TRUE(World().ReduceScatter(input, output).ok());
      EXPECT_EQ(output.Get().values, expected);
      EXPECT_EQ(input.Get().values, ValuesOf(rank, count * ranks).values) << "the input changed";

      const Tensor block = input.tensor().ColumnSlice(rank * count, count);
      ASSERT_TRUE(World().ReduceScatter(input, block).ok());
      const Matrix in_place = input.Get();
      EXPECT_EQ(
          std::vector<double>(in_place.values.begin() + rank * count, in_place.values.begin() + (rank + 1) * count),
          expected);
    }
  }
}

TEST(Communicator, AllGatherPutsBlocksInOrderOfRanks) {
  const int ranks = World().size(), rank = World().rank();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt32, DType::kUInt8}) {
    constexpr int64_t kCount = 37;
    Matrix expected(1, kCount * ranks);
    for (int64_t i = 0; i < kCount * ranks; ++i) expected(0, i) = static_cast<double>(i / kCount + 1);
    const Buffer input(dtype, Matrix(1, kCount, rank + 1)), output(dtype, 1, kCount * ranks);
    ASSERT_TRUE(World().AllGather(input, output).ok());
    EXPECT_EQ(output.Get().values, expected.values);

    Matrix own(1, kCount * ranks);
    for (int64_t i = 0; i < kCount; ++i) own(0, rank * kCount + i) = rank + 1;
    const Buffer in_place(dtype, own);
    ASSERT_TRUE(World().AllGather(in_place.tensor().ColumnSlice(rank * kCount, kCount), in_place).ok());
    EXPECT_EQ(in_place.Get().values, expected.values);
  }
}

TEST(Communicator, BroadcastTakesAnyRoot) {
  for (int root = 0; root < World().size(); ++root) {
    Buffer data(DType::kFloat64, ValuesOf(World().rank(), 101));
    ASSERT_TRUE(World().Broadcast(data, root).ok());
    EXPECT_EQ(data.Get().values, ValuesOf(root, 101).values);
  }
}

TEST(Communicator, OperationsOverlapAndCompleteInAnyOrder) {
  const int ranks = World().size(), rank = World().rank();
  for (int round = 0; round < 3; ++round) {  // again in slots that were used before
    Buffer a(DType::kFloat32, ValuesOf(rank, 30'000)), b(DType::kFloat64, ValuesOf(rank, 7)),
        c(DType::kInt32, ValuesOf(rank, 1));
    const auto first = World().StartAllReduce(a, Reduction::kSum);
    const auto second = World().StartAllReduce(b, Reduction::kSum);
    const auto third = World().StartBroadcast(c, ranks - 1);
    ASSERT_TRUE(first.ok() && second.ok() && third.ok());
    ASSERT_TRUE(World().Progress().ok());
    EXPECT_TRUE(World().Wait(*third).ok());
    EXPECT_TRUE(World().Wait(*first).ok());
    EXPECT_TRUE(World().Wait(*second).ok());
    EXPECT_TRUE(World().Wait(*first).ok()) << "waiting twice does nothing";
    EXPECT_TRUE(World().Wait(Ticket()).ok());
    EXPECT_EQ(a.Get().values, SumOf(ranks, 30'000).values);
    EXPECT_EQ(b.Get().values, SumOf(ranks, 7).values);
    EXPECT_EQ(c.Get().values, ValuesOf(ranks - 1, 1).values);
  }
}

TEST(Communicator, SendsAlongTheRing) {
  const int ranks = World().size(), rank = World().rank();
  if (ranks == 1) GTEST_SKIP() << "needs two ranks";
  double token = rank == 0 ? 1 : 0;
  const Tensor data(&token, DType::kFloat64, 1, 1);
  if (rank > 0) {
    ASSERT_TRUE(World().Receive(data, rank - 1).ok());
    token += rank;
  }
  ASSERT_TRUE(World().Send(data, (rank + 1) % ranks).ok() || rank == ranks - 1);
  if (rank == 0) {
    ASSERT_TRUE(World().Receive(data, ranks - 1).ok());
    EXPECT_EQ(token, 1 + ranks * (ranks - 1) / 2);
  }
}

TEST(Communicator, SplitFormsGroupsByColorInOrderOfKeys) {
  const int ranks = World().size(), rank = World().rank();
  auto split = World().Split(rank % 2, -rank, "half");
  ASSERT_TRUE(split.ok()) << split.status();
  Communicator& half = **split;
  EXPECT_EQ(half.name(), "half");
  EXPECT_EQ(half.size(), (ranks + (rank % 2 == 0 ? 1 : 0)) / 2);
  double sum = rank;
  ASSERT_TRUE(half.AllReduceNumbers(absl::MakeSpan(&sum, 1)).ok());
  double expected = 0;
  int larger = 0;
  for (int other = rank % 2; other < ranks; other += 2) {
    expected += other;
    larger += other > rank ? 1 : 0;
  }
  EXPECT_EQ(sum, expected);
  EXPECT_EQ(half.rank(), larger) << "keys were the negative ranks";
}

TEST(Communicator, RejectsTensorsThatDisagree) {
  const int ranks = World().size();
  const Buffer rows(DType::kFloat32, 2, 3, 1), data(DType::kFloat32, 1, 4 * ranks), block(DType::kFloat32, 1, 5);
  EXPECT_EQ(World().AllReduce(rows).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(World().ReduceScatter(data, block).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(World().AllGather(block, data).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(World().Broadcast(data, ranks).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(World().Broadcast(data, -1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(World().AllReduce(data).ok()) << "the group is unharmed";
}

TEST(Communicator, ARankThatStaysAwayIsADeadlineThatNamesTheOperation) {
  const int ranks = World().size(), rank = World().rank();
  if (ranks == 1) GTEST_SKIP() << "needs two ranks";
  auto split = World().Split(0, rank, "late");
  ASSERT_TRUE(split.ok()) << split.status();
  Communicator& group = **split;
  Buffer data(DType::kFloat32, 1, 12);
  ASSERT_TRUE(group.AllReduce(data).ok());
  group.set_deadline(absl::Milliseconds(200));
  // The last rank waits for a message that nobody sends, the others for the last rank.
  const bool late = rank == ranks - 1;
  const absl::Status status = late ? group.Receive(data, 0) : group.AllReduce(data);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("late group: "));
  EXPECT_THAT(status.message(), HasSubstr(late ? "receive from rank 0" : "all_reduce #1"));
  EXPECT_THAT(status.message(), HasSubstr("fp32 [1, 12]"));
  EXPECT_THAT(status.message(), HasSubstr("within 200ms on rank " + std::to_string(rank) + " of "));
  EXPECT_EQ(group.AllReduce(data), status) << "a group that failed stays failed";
  EXPECT_TRUE(World().Barrier().ok()) << "other groups are unharmed";
}

TEST(AgreeOnStatus, OkWhenAllRanksAre) { EXPECT_TRUE(AgreeOnStatus(World(), absl::OkStatus()).ok()); }

TEST(AgreeOnStatus, TheLowestRankThatFailedIsNamedEverywhere) {
  const int ranks = World().size(), rank = World().rank();
  const bool failed = ranks == 1 || rank > 0;
  const absl::Status status = AgreeOnStatus(
      World(), failed ? absl::DataLossError("shard " + std::to_string(rank) + " is damaged") : absl::OkStatus());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), ranks == 1 ? "shard 0 is damaged" : "rank 1: shard 1 is damaged");
}

TEST(AgreeOnStatus, WhatAllRanksFoundAlikeIsSaidWithoutARank) {
  EXPECT_EQ(AgreeOnStatus(World(), absl::NotFoundError("no such file")), absl::NotFoundError("no such file"));
}

}  // namespace
}  // namespace isthmus::testing
