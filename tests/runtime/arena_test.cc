#include "runtime/arena.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {
namespace {

TEST(ArenaLayout, StartsEveryTensorOnItsAlignmentWithoutOverlap) {
  ArenaLayout layout;
  const std::vector<std::pair<DType, int64_t>> tensors = {
      {DType::kUInt8, 1}, {DType::kFloat32, 33}, {DType::kBFloat16, 64}, {DType::kFloat64, 0}, {DType::kFloat64, 17}};
  int64_t end = 0;
  for (const auto& [dtype, columns] : tensors) {
    const int64_t offset = layout.Add("x", dtype, 3, columns);
    EXPECT_EQ(offset % ArenaLayout::kAlignment, 0);
    EXPECT_GE(offset, end);
    EXPECT_LT(offset, end + ArenaLayout::kAlignment);
    end = offset + 3 * columns * SizeOf(dtype);
  }
  EXPECT_GE(layout.bytes(), end);
  EXPECT_LT(layout.bytes(), end + ArenaLayout::kAlignment);
}

TEST(ArenaLayout, AddsNoPaddingToSizesThatAreMultiplesOfTheAlignment) {
  ArenaLayout layout;
  EXPECT_EQ(layout.Add("a", DType::kFloat32, 1, 32), 0);
  EXPECT_EQ(layout.Add("b", DType::kFloat32, 2, 32), 128);
  EXPECT_EQ(layout.bytes(), 384);
}

TEST(ArenaLayout, TensorsThatNeverLiveAtTheSameTimeShareBytes) {
  ArenaLayout layout;
  layout.Add("kept", DType::kFloat32, 1, 32);
  std::vector<int64_t> offsets;
  layout.Share(3, [&](int64_t i) {
    const int64_t rows[] = {1, 10, 2};
    offsets.push_back(layout.Add(absl::StrCat("group ", i), DType::kFloat32, rows[i], 32));
    if (i == 2) offsets.push_back(layout.Add("small", DType::kFloat32, 1, 1));
  });
  EXPECT_THAT(offsets, ::testing::ElementsAre(128, 128, 128, 384));
  EXPECT_EQ(layout.bytes(), 11 * 128);
  // The next tensor lies behind the largest group, which alone is listed.
  EXPECT_EQ(layout.Add("after", DType::kFloat32, 1, 32), 11 * 128);
  std::vector<std::string> names;
  for (const ArenaLayout::Entry& entry : layout.entries()) names.push_back(entry.name);
  EXPECT_THAT(names, ::testing::ElementsAre("kept", "group 1", "after"));
}

TEST(ArenaLayout, ListsWhatWasAddedForTheMemoryTable) {
  ArenaLayout layout;
  layout.Add("embedding", DType::kBFloat16, 5, 7);
  layout.Add("norm", DType::kFloat64, 1, 7);
  ASSERT_EQ(layout.entries().size(), 2u);
  EXPECT_EQ(layout.entries()[0].name, "embedding");
  EXPECT_EQ(layout.entries()[0].bytes, 70);
  EXPECT_EQ(layout.entries()[1].name, "norm");
  EXPECT_EQ(layout.entries()[1].offset, 128);
  EXPECT_EQ(layout.entries()[1].bytes, 56);
}

TEST(Arena, IsZeroedAndAlignedToTheLastByte) {
  auto arena = Arena::Allocate("test", 1000);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->bytes(), 1000);
  const Tensor all = arena->At(0, DType::kUInt8, 1, 1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(all.data) % ArenaLayout::kAlignment, 0u);
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(all.As<uint8_t>()[i], 0) << i;
}

TEST(Arena, PlacesTensorsWhereTheLayoutSaid) {
  ArenaLayout layout;
  const int64_t first = layout.Add("first", DType::kFloat32, 3, 5);
  const int64_t second = layout.Add("second", DType::kFloat64, 2, 4);
  auto arena = Arena::Allocate("test", layout.bytes());
  ASSERT_TRUE(arena.ok()) << arena.status();
  const Tensor a = arena->At(first, DType::kFloat32, 3, 5);
  const Tensor b = arena->At(second, DType::kFloat64, 2, 4);
  for (int64_t i = 0; i < a.size(); ++i) a.As<float>()[i] = 1.0f;
  for (int64_t i = 0; i < b.size(); ++i) b.As<double>()[i] = 2.0;
  for (int64_t i = 0; i < a.size(); ++i) ASSERT_EQ(a.As<float>()[i], 1.0f);
  EXPECT_EQ(static_cast<char*>(b.data) - static_cast<char*>(a.data), second - first);
  EXPECT_EQ(b.Describe(), "fp64 [2, 4]");
}

TEST(Arena, MovesWithItsMemory) {
  auto arena = Arena::Allocate("test", 256);
  ASSERT_TRUE(arena.ok()) << arena.status();
  void* data = arena->At(0, DType::kUInt8, 1, 256).data;
  Arena moved = *std::move(arena);
  EXPECT_EQ(moved.At(0, DType::kUInt8, 1, 256).data, data);
  Arena assigned;
  EXPECT_EQ(assigned.bytes(), 0);
  assigned = std::move(moved);
  EXPECT_EQ(assigned.At(0, DType::kUInt8, 1, 256).data, data);
  EXPECT_EQ(assigned.bytes(), 256);
}

TEST(Arena, OfNoBytesNeedsNoMemory) {
  const auto arena = Arena::Allocate("empty", 0);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->bytes(), 0);
}

TEST(Arena, NamesItselfAndItsSizeWhenMemoryIsNotToBeHad) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers end the program when an allocation fails";
#endif
  const int64_t bytes = std::numeric_limits<int64_t>::max() / 4;
  const auto arena = Arena::Allocate("activations", bytes);
  ASSERT_EQ(arena.status().code(), absl::StatusCode::kResourceExhausted) << arena.status();
  EXPECT_NE(arena.status().message().find("activations"), std::string::npos);
  EXPECT_NE(arena.status().message().find(std::to_string(bytes)), std::string::npos);
}

}  // namespace
}  // namespace isthmus
