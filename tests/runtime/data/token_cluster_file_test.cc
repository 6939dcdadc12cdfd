#include "runtime/data/token_cluster_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "runtime/npy.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using testing::ReadText;
using testing::TemporaryFolder;
using testing::WriteText;

class TokenClusterFile : public ::testing::Test {
 protected:
  // Reads what was written, and expects an error that names the file.
  void ExpectRefused(const std::vector<int32_t>& clusters, int64_t vocabulary, const std::string& message) {
    ASSERT_TRUE(WriteTokenClusters(path_, clusters).ok());
    ExpectRefused(vocabulary, message);
  }
  void ExpectRefused(int64_t vocabulary, const std::string& message) {
    const absl::Status status = ReadTokenClusters(path_, vocabulary).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ": " + message));
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "clusters.npy";
};

TEST_F(TokenClusterFile, ReturnsWhatWasWritten) {
  for (const std::vector<int32_t>& clusters :
       std::vector<std::vector<int32_t>>{{0}, {0, 0, 0}, {2, 0, 1}, {1, 0, 1, 0, 2}}) {
    ASSERT_TRUE(WriteTokenClusters(path_, clusters).ok());
    const auto read = ReadTokenClusters(path_, static_cast<int64_t>(clusters.size()));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, clusters);
  }
}

TEST_F(TokenClusterFile, AnotherShapeOrDtypeIsRefused) {
  ExpectRefused({0, 1, 1}, 4, "found int32 (3,); accepts int32 (4,)");
  ExpectRefused({0, 1, 1}, 2, "found int32 (3,); accepts int32 (2,)");
  const auto write = [&](NpyType type, const std::vector<int64_t>& shape) {
    auto writer = NpyWriter::Create(path_, type, shape);
    const std::string zeros(static_cast<size_t>(type == NpyType::kInt64 ? 32 : 16), '\0');
    ASSERT_TRUE(writer.ok() && writer->Append(zeros.data(), static_cast<int64_t>(zeros.size())).ok());
    ASSERT_TRUE(writer->Commit().ok());
  };
  write(NpyType::kInt64, {4});
  ExpectRefused(4, "found int64 (4,); accepts int32 (4,)");
  write(NpyType::kFloat32, {4});
  ExpectRefused(4, "found float32 (4,)");
  write(NpyType::kInt32, {4, 1});
  ExpectRefused(4, "found int32 (4, 1)");
  write(NpyType::kInt32, {4});
  EXPECT_TRUE(ReadTokenClusters(path_, 4).ok());
}

TEST_F(TokenClusterFile, NumbersThatAreNoClustersAreRefused) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max(), kLeast = std::numeric_limits<int32_t>::min();
  ExpectRefused({0, -1, 1}, 3, "token 1 has cluster -1; accepts 0 to 2");
  ExpectRefused({0, 1, 3}, 3, "token 2 has cluster 3; accepts 0 to 2");
  ExpectRefused({kMost, 0, 0}, 3, "token 0 has cluster 2147483647");
  ExpectRefused({0, kLeast, 0}, 3, "token 1 has cluster -2147483648");
  ExpectRefused({0, 2, 2}, 3, "no token has cluster 1, and clusters go up to 2");
  ExpectRefused({1, 1, 1}, 3, "no token has cluster 0, and clusters go up to 1");
}

TEST_F(TokenClusterFile, DamagedFilesAndPipesAreRefused) {
  ASSERT_TRUE(WriteTokenClusters(path_, std::vector<int32_t>{0, 1, 1}).ok());
  const std::string good = ReadText(path_);
  for (size_t size = 0; size < good.size(); ++size) {
    WriteText(path_, good.substr(0, size));
    EXPECT_FALSE(ReadTokenClusters(path_, 3).ok()) << size << " bytes";
  }
  WriteText(path_, good + "x");
  EXPECT_FALSE(ReadTokenClusters(path_, 3).ok());
  // Whatever a flipped bit makes of the file, what is read is clusters.
  for (size_t i = 0; i < good.size() * 8; ++i) {
    std::string bad = good;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ 1 << i % 8);
    WriteText(path_, bad);
    const auto read = ReadTokenClusters(path_, 3);
    if (!read.ok()) continue;
    EXPECT_EQ(read->size(), 3u);
    for (const int32_t cluster : *read) EXPECT_TRUE(cluster >= 0 && cluster < 3) << "bit " << i;
  }
  std::filesystem::remove(path_);
  EXPECT_EQ(ReadTokenClusters(path_, 3).status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  ExpectRefused(3, "is not a file");
}

TEST_F(TokenClusterFile, OtherNamesOfAnOldFileSeeTheNewOne) {
  WriteText(path_, "old");
  std::filesystem::create_hard_link(path_, folder_ / "other.npy");
  ASSERT_TRUE(WriteTokenClusters(path_, std::vector<int32_t>{0, 1}).ok());
  EXPECT_TRUE(ReadTokenClusters(folder_ / "other.npy", 2).ok());
}

}  // namespace
}  // namespace isthmus
