#include "runtime/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WriteText;

// Returns a version 1.0 file with this header and elements.
std::string Npy(const std::string& type, const std::string& order, const std::string& shape,
                const std::string& elements) {
  const std::string header = "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + std::string(1, '\0') + header +
         elements;
}

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TEST(NpyArray, BothOrdersAndTypesAreReadAlike) {
  const TemporaryFolder folder;
  WriteText(folder / "c.npy", Npy("<f4", "False", "(3, 2)", BytesOf<float>({1, 2, 3, 4, 5, 6})));
  WriteText(folder / "f.npy", Npy("<f8", "True", "(3, 2)", BytesOf<double>({1, 3, 5, 2, 4, 6})));
  for (const char* name : {"c.npy", "f.npy"}) {
    const auto array = NpyArray::Open(folder / name);
    ASSERT_TRUE(array.ok()) << array.status();
    std::vector<double> rows(4);
    ASSERT_TRUE((*array)->ReadRows(1, 2, rows.data()).ok());
    EXPECT_THAT(rows, ElementsAre(3, 4, 5, 6)) << name;
  }
  // These are more elements than are read at once.
  std::vector<int32_t> many(300'000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int32_t>(i * 7);
  WriteText(folder / "i.npy", Npy("<i4", "False", "(300000,)", BytesOf(many)));
  std::vector<int64_t> read(many.size() - 1);
  ASSERT_TRUE((*NpyArray::Open(folder / "i.npy"))->ReadIntegers(1, 299'999, read.data()).ok());
  EXPECT_TRUE(std::equal(read.begin(), read.end(), many.begin() + 1));
}

TEST(NpyArray, AFileThatIsCutWhileItIsReadIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  WriteText(path, Npy("<f4", "False", "(100000, 2)", std::string(800'000, '\0')));
  const auto array = NpyArray::Open(path);
  ASSERT_TRUE(array.ok()) << array.status();
  std::filesystem::resize_file(path, 1000);
  std::vector<double> rows(200'000);
  const absl::Status status = (*array)->ReadRows(0, 100'000, rows.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cut while it was read"));
}

TEST(NpyArray, SizesThatTheFileDoesNotHaveAreRejected) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  for (const char* shape : {"(8589934592, 2147483648)", "(4611686018427387904, 4)", "(9223372036854775808, 1)",
                            "(2147483648, 2147483648, 4)", "(1000000, 1000)", "(-1, 4)"}) {
    WriteText(path, Npy("<f4", "False", shape, ""));
    const absl::Status status = NpyArray::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << shape;
  }
  // The file states a header of 2 GiB and has a hole of that size.
  WriteText(path, std::string("\x93NUMPY\x02\x00\x00\x00\x00\x7F", 12));
  std::filesystem::resize_file(path, (int64_t{1} << 31) + 100);
  EXPECT_THAT(std::string(NpyArray::Open(path).status().message()), HasSubstr("accepts up to 1048576"));
}

TEST(NpyBytes, AreReadAsTheVector) {
  const TemporaryFolder folder;
  for (const size_t size : {size_t{1}, size_t{1000}}) {
    std::vector<int32_t> numbers(size, 7);
    numbers.back() = -3;
    const std::string bytes = NpyBytes(numbers);
    EXPECT_EQ((bytes.size() - size * sizeof(int32_t)) % 64, 0u);
    WriteText(folder / "x.npy", bytes);
    const auto array = NpyArray::Open(folder / "x.npy");
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ((*array)->type(), NpyType::kInt32);
    EXPECT_THAT((*array)->shape(), ElementsAre(static_cast<int64_t>(size)));
    std::vector<int64_t> found(size);
    ASSERT_TRUE((*array)->ReadIntegers(0, static_cast<int64_t>(size), found.data()).ok());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), numbers.begin()));
  }
}

TEST(NpyBytes, HaveNumbersOf64Bits) {
  const TemporaryFolder folder;
  WriteText(folder / "x.npy", NpyBytes(std::vector<int64_t>{1, int64_t{1} << 40, -3}));
  const auto array = NpyArray::Open(folder / "x.npy");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ((*array)->Describe(), "int64 (3,)");
  std::vector<int64_t> found(3);
  ASSERT_TRUE((*array)->ReadIntegers(0, 3, found.data()).ok());
  EXPECT_THAT(found, ElementsAre(1, int64_t{1} << 40, -3));
}

TEST(NpyArray, APipeIsNotWaitedFor) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "x.npy").c_str(), 0600), 0);
  EXPECT_THAT(std::string(NpyArray::Open(folder / "x.npy").status().message()), HasSubstr("is not a file"));
}

}  // namespace
}  // namespace isthmus
