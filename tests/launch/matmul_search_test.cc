// Tests the file of product algorithms in a run folder, on a GPU. With the kernels run by the CPU the measurement finds
// made-up algorithms.
#include "launch/run/matmul_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ops/cuda/matmul_algorithms.h"
#include "ops/matmul.h"
#include "runtime/arena.h"
#include "runtime/device.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CudaMatmulSearch : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto devices = CudaDeviceCount();
    if (!devices.ok()) GTEST_SKIP() << devices.status().message();
    auto arena = Arena::Allocate("test", int64_t{1} << 20, Device::kCuda);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
  }

  // Chooses as a run does that needs products with these numbers of rows; returns the log.
  std::string Choose(const std::vector<int64_t>& rows) {
    auto stream = OpenCudaStream(0);
    EXPECT_TRUE(stream.ok()) << stream.status();
    stream_ = *stream;
    std::filesystem::remove_all(folder_ / "log");
    auto log = Log::Open(folder_.path(), 0);
    EXPECT_TRUE(log.ok()) << log.status();
    const auto world = MakeSelfCommunicator();
    const absl::Status status = ChooseMatmulAlgorithms(folder_.path(), *world, stream_, **log, [&]() -> absl::Status {
      absl::Status product;
      for (const int64_t m : rows) product.Update(Multiply(m));
      return product;
    });
    EXPECT_TRUE(status.ok()) << status;
    (*log)->Flush();
    return ReadText(folder_ / "log/rank-0000.log");
  }

  absl::Status Multiply(int64_t m) {
    return Matmul({.a = arena_.At(0, DType::kFloat32, m, 32),
                   .b = arena_.At(262144, DType::kFloat32, 32, 16),
                   .c = arena_.At(524288, DType::kFloat32, m, 16)},
                  stream_);
  }

  MatmulAlgorithms File() const {
    const auto read = ParseMatmulAlgorithms(ReadText(path_));
    EXPECT_TRUE(read.ok()) << read.status();
    return read.ok() ? *read : MatmulAlgorithms();
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "matmul-algorithms.json";
  Arena arena_;
  Stream stream_;
};

TEST_F(CudaMatmulSearch, MeasuresOnceAndUsesTheFileFromThenOn) {
  EXPECT_THAT(Choose({8, 16, 8}), HasSubstr("0 algorithms known"));
  const MatmulAlgorithms first = File();
  EXPECT_EQ(first.size(), 2u);

  // This time marks the choices: a measurement would not find it again.
  MatmulAlgorithms marked = first;
  for (auto& [key, algorithm] : marked) algorithm.seconds = 1234;
  WriteText(path_, MatmulAlgorithmsText(marked));
  EXPECT_THAT(Choose({8, 16}), HasSubstr("2 algorithms known"));
  EXPECT_EQ(File(), marked);
  EXPECT_EQ(MatmulAlgorithmsOf(stream_), marked);

  EXPECT_THAT(Choose({8, 24}), HasSubstr("1 chosen by measurement"));
  EXPECT_EQ(File().size(), 3u);
}

TEST_F(CudaMatmulSearch, NothingIsMeasuredAfterwards) {
  Choose({8});
  ASSERT_TRUE(Multiply(40).ok());
  EXPECT_EQ(MatmulAlgorithmsOf(stream_).size(), 1u);
}

TEST_F(CudaMatmulSearch, AFileThatCannotBeReadIsNotedAndReplaced) {
  for (const std::string& text : {std::string("{\"format\""), std::string(), std::string("\0\xff", 2)}) {
    WriteText(path_, text);
    EXPECT_THAT(Choose({8}), HasSubstr("matmul-algorithms.json is not used: "));
    EXPECT_EQ(File().size(), 1u);
  }
  EXPECT_THAT(Choose({8}), Not(HasSubstr("is not used")));
}

TEST(MatmulSearch, NothingHappensOnTheCpu) {
  const TemporaryFolder folder;
  auto log = Log::Open(folder.path(), 0);
  ASSERT_TRUE(log.ok());
  Stream cpu;
  const auto world = MakeSelfCommunicator();
  ASSERT_TRUE(
      ChooseMatmulAlgorithms(folder.path(), *world, cpu, **log, [] { return absl::InternalError("rehearsed"); }).ok());
  EXPECT_FALSE(std::filesystem::exists(folder / "matmul-algorithms.json"));
}

}  // namespace
}  // namespace isthmus::testing
