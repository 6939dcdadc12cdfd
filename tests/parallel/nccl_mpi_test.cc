// ranks: 1 2
// Collectives by NCCL run with one GPU to a rank; they are skipped if there are fewer GPUs than ranks. One rank alone
// shows that NCCL starts, and that operations, tickets and the watchdog work.
#include <absl/time/time.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "parallel/communicator.h"
#include "runtime/arena.h"
#include "runtime/device.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

// The numbers are small integers, exact in every sum here. Every rank has another sequence.
float ValueOf(int rank, size_t i) { return static_cast<float>((i * 7 + static_cast<size_t>(rank) * 3) % 11) - 4; }

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasNccl()) GTEST_SKIP() << "built without NCCL";
    const auto devices = CudaDeviceCount();
    if (!devices.ok()) GTEST_SKIP() << devices.status().message();
    // All ranks of a test are on one machine.
    if (*devices < World().size()) GTEST_SKIP() << *devices << " GPUs for " << World().size() << " ranks";
    auto stream = OpenCudaStream(World().rank());
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = *std::move(stream);
    auto host = World().Split(0, World().rank(), "nccl");
    ASSERT_TRUE(host.ok()) << host.status();
    auto group = MakeNcclCommunicator(*std::move(host), stream_, absl::Seconds(60));
    ASSERT_TRUE(group.ok()) << group.status();
    group_ = *std::move(group);
  }

  int rank() const { return group_->rank(); }
  int ranks() const { return group_->size(); }

  // Holds a row of numbers on this rank's GPU.
  class OnGpu {
   public:
    OnGpu(const std::vector<float>& values, const Stream& stream)
        : stream_(stream), arena_(*Arena::Allocate("test", Bytes(values), Device::kCuda)), count_(values.size()) {
      std::vector<float> copy = values;
      EXPECT_TRUE(CopyFromHost(Tensor(copy.data(), DType::kFloat32, 1, tensor().columns), tensor(), stream_).ok());
    }
    Tensor tensor() const { return arena_.At(0, DType::kFloat32, 1, static_cast<int64_t>(count_)); }
    std::vector<float> Get() const {
      std::vector<float> values(count_);
      EXPECT_TRUE(CopyToHost(tensor(), Tensor(values.data(), DType::kFloat32, 1, tensor().columns), stream_).ok());
      return values;
    }

   private:
    static int64_t Bytes(const std::vector<float>& values) {
      return static_cast<int64_t>(values.size() * sizeof(float));
    }
    Stream stream_;
    Arena arena_;
    size_t count_;
  };

  OnGpu Values(size_t count, int of_rank) const {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = ValueOf(of_rank, i);
    return OnGpu(values, stream_);
  }
  std::vector<float> Sum(size_t count) const {
    std::vector<float> sum(count);
    for (int from = 0; from < ranks(); ++from) {
      for (size_t i = 0; i < count; ++i) sum[i] += ValueOf(from, i);
    }
    return sum;
  }

  Stream stream_;
  std::unique_ptr<Communicator> group_;
};

TEST_F(Nccl, AllReduceSumsAndFindsExtremes) {
  for (const size_t count : {size_t{1}, size_t{17}, size_t{100'003}}) {
    const OnGpu data = Values(count, rank());
    ASSERT_TRUE(group_->AllReduce(data.tensor()).ok());
    EXPECT_EQ(data.Get(), Sum(count));
  }
  const OnGpu largest({static_cast<float>(rank())}, stream_), smallest({static_cast<float>(rank() - 2)}, stream_);
  ASSERT_TRUE(group_->AllReduce(largest.tensor(), Reduction::kMax).ok());
  ASSERT_TRUE(group_->AllReduce(smallest.tensor(), Reduction::kMin).ok());
  EXPECT_EQ(largest.Get()[0], static_cast<float>(ranks() - 1));
  EXPECT_EQ(smallest.Get()[0], -2.0f);
}

TEST_F(Nccl, BlocksAreScatteredAndGatheredInOrderOfRanks) {
  const size_t block = 1000, count = block * static_cast<size_t>(ranks());
  const OnGpu input = Values(count, rank()), own(std::vector<float>(block), stream_),
              whole(std::vector<float>(count), stream_);
  ASSERT_TRUE(group_->ReduceScatter(input.tensor(), own.tensor()).ok());
  const std::vector<float> sum = Sum(count);
  const auto begin = sum.begin() + static_cast<int64_t>(block) * rank();
  EXPECT_EQ(own.Get(), std::vector<float>(begin, begin + static_cast<int64_t>(block)));
  ASSERT_TRUE(group_->AllGather(own.tensor(), whole.tensor()).ok());
  EXPECT_EQ(whole.Get(), sum);
}

TEST_F(Nccl, BroadcastTakesAnyRoot) {
  for (int root = 0; root < ranks(); ++root) {
    const OnGpu data = Values(101, rank());
    ASSERT_TRUE(group_->Broadcast(data.tensor(), root).ok());
    EXPECT_EQ(data.Get(), Values(101, root).Get());
  }
}

TEST_F(Nccl, ManyOperationsCompleteInAnyOrder) {
  const OnGpu a = Values(30'000, rank()), b = Values(7, rank());
  const auto first = group_->StartAllReduce(a.tensor(), Reduction::kSum);
  const auto second = group_->StartAllReduce(b.tensor(), Reduction::kSum);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(group_->Progress().ok());
  EXPECT_TRUE(group_->Wait(*second).ok());
  EXPECT_TRUE(group_->Wait(*first).ok());
  EXPECT_EQ(a.Get(), Sum(30'000));
  EXPECT_EQ(b.Get(), Sum(7));
  // These are more operations than the communicator has events for.
  const OnGpu c({1}, stream_);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(group_->AllReduce(c.tensor(), Reduction::kMax).ok());
  EXPECT_EQ(c.Get()[0], 1.0f);
  EXPECT_TRUE(group_->Barrier().ok());
}

}  // namespace
}  // namespace isthmus::testing
