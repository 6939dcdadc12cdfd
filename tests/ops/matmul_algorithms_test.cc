// Tests keys, the file and the choice itself: the parts of a GPU's product algorithms that need no GPU.
#include "ops/cuda/matmul_algorithms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

namespace isthmus {
namespace {

using ::testing::HasSubstr;

MatmulArgs Args() {
  // These are only addresses: nothing is read.
  auto* memory = reinterpret_cast<char*>(uintptr_t{1} << 20);
  return {.a = Tensor(memory, DType::kBFloat16, 32, 64, 72),
          .b = Tensor(memory + 65536, DType::kBFloat16, 48, 64),
          .c = Tensor(memory + 131072, DType::kFloat32, 32, 48),
          .transpose_b = true};
}

MatmulAlgorithms Sample() {
  return {{"GPU A, cuBLASLt 1: c = \"a\" · b", {{1, 2, 0xfedcba9876543210, 4, 5, 6, 7, 8}, 1.25e-4}},
          {"GPU B, cuBLASLt 2: ᵀ", {{}, 3e-6}}};
}

TEST(MatmulAlgorithms, KeysTellApartWhatTheLibraryTellsApart) {
  std::set<std::string> keys = {MatmulKey(Args(), "H100", 1)};
  const auto expect_new = [&](const MatmulArgs& args, const char* device = "H100", int64_t version = 1) {
    EXPECT_TRUE(keys.insert(MatmulKey(args, device, version)).second) << MatmulKey(args, device, version);
  };
  expect_new(Args(), "H200");
  expect_new(Args(), "H100", 2);
  MatmulArgs args = Args();
  args.accumulate = true;
  expect_new(args);
  args = Args();
  args.transpose_a = true;
  expect_new(args);
  args = Args();
  args.transpose_b = false;
  expect_new(args);
  args = Args();
  args.c.dtype = DType::kBFloat16;
  expect_new(args);
  args = Args();
  args.a.row_stride = 80;
  expect_new(args);
  args = Args();
  args.a.rows = args.c.rows = 33;
  expect_new(args);
  args = Args();
  args.b.data = args.b.As<char>() + 2;
  expect_new(args);
}

TEST(MatmulAlgorithms, AKeyIsTheSameAtAnotherAddressOfTheSameAlignment) {
  MatmulArgs args = Args();
  args.a.data = args.a.As<char>() + 4096;
  EXPECT_EQ(MatmulKey(args, "H100", 1), MatmulKey(Args(), "H100", 1));
}

TEST(MatmulAlgorithms, AlignmentIsThatOfAddressAndRows) {
  EXPECT_EQ(RowAlignment(Tensor(reinterpret_cast<void*>(uintptr_t{4096}), DType::kFloat32, 2, 64)), 256u);
  EXPECT_EQ(RowAlignment(Tensor(reinterpret_cast<void*>(uintptr_t{4096}), DType::kFloat32, 2, 3)), 4u);
  EXPECT_EQ(RowAlignment(Tensor(reinterpret_cast<void*>(uintptr_t{4096}), DType::kFloat32, 1, 3)), 256u);
  EXPECT_EQ(RowAlignment(Tensor(reinterpret_cast<void*>(uintptr_t{4096 + 16}), DType::kFloat32, 2, 64)), 16u);
}

TEST(MatmulAlgorithms, TheFileReadsBackAsItWasWritten) {
  for (const MatmulAlgorithms& algorithms : {Sample(), MatmulAlgorithms()}) {
    const auto read = ParseMatmulAlgorithms(MatmulAlgorithmsText(algorithms));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, algorithms);
  }
}

TEST(MatmulAlgorithms, AFileOfAnythingElseIsRejectedWithWhatWasFound) {
  const std::string good = MatmulAlgorithmsText(Sample());
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const auto message = [](const std::string& text) {
    const auto parsed = ParseMatmulAlgorithms(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(parsed.status().message());
  };
  EXPECT_THAT(message(""), HasSubstr("no JSON object"));
  EXPECT_THAT(message("[1]"), HasSubstr("no JSON object"));
  EXPECT_THAT(message("\xff\xfe"), HasSubstr("no JSON object"));
  EXPECT_THAT(message("{}"), HasSubstr("another format"));
  EXPECT_THAT(message(replaced("isthmus matrix", "other")), HasSubstr("another format"));
  EXPECT_THAT(message(replaced("\"version\": 1", "\"version\": 2")), HasSubstr("found version 2; accepted: version 1"));
  EXPECT_THAT(message(replaced("\"version\"", "\"v\"")), HasSubstr("version none"));
  EXPECT_THAT(message(replaced("\"algorithms\"", "\"list\"")), HasSubstr("no list"));
  EXPECT_THAT(message(replaced("fedcba9876543210", "fedcba987654321g")), HasSubstr("GPU A"));
  EXPECT_THAT(message(replaced("fedcba9876543210 ", "")), HasSubstr("GPU A"));
  EXPECT_THAT(message(replaced("\"seconds\": 0.000125", "\"seconds\": \"short\"")), HasSubstr("GPU A"));
  for (size_t size = 0; size + 2 < good.size(); ++size) {
    EXPECT_FALSE(ParseMatmulAlgorithms(good.substr(0, size)).ok()) << "cut off at " << size;
  }
}

absl::StatusOr<FastestCandidate> Fastest(const std::vector<absl::StatusOr<double>>& seconds) {
  return ChooseFastest(static_cast<int>(seconds.size()), [&](int i) { return seconds[static_cast<size_t>(i)]; });
}

TEST(MatmulAlgorithms, TheFastestIsChosenAndFailuresArePassedOver) {
  const absl::Status failed = absl::InternalError("does not run");
  EXPECT_EQ(Fastest({3.0, 1.0, 2.0})->index, 1);
  EXPECT_EQ(Fastest({3.0, 1.0, 2.0})->seconds, 1.0);
  EXPECT_EQ(Fastest({failed, 3.0, failed, 2.0})->index, 3);
  EXPECT_EQ(Fastest({5.0})->index, 0);
  EXPECT_EQ(Fastest({std::numeric_limits<double>::quiet_NaN(), 0.0, -1.0, 4.0})->index, 3);
}

TEST(MatmulAlgorithms, AGainWithinTheNoiseKeepsTheBetterGuess) {
  EXPECT_EQ(Fastest({1.0, 0.99, 0.985})->index, 0);
  EXPECT_EQ(Fastest({1.0, 0.99, 0.97})->index, 2);
}

TEST(MatmulAlgorithms, WhereAllFailTheFirstFailureIsReported) {
  const auto none = Fastest({absl::InternalError("first"), absl::InternalError("second")});
  EXPECT_EQ(none.status(), absl::InternalError("first"));
  EXPECT_EQ(Fastest({}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MatmulAlgorithms, TheCpuHasNoneToChoose) {
  Stream cpu;
  SetMatmulAlgorithms(Sample(), true, cpu);
  EXPECT_TRUE(MatmulAlgorithmsOf(cpu).empty());
}

}  // namespace
}  // namespace isthmus
