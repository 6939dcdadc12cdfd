#include "runtime/data/token_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/data/token_shard_writer.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadText;
using testing::TemporaryFolder;
using testing::WriteText;

void Write(const std::string& path, int64_t vocabulary, const std::vector<std::vector<int32_t>>& documents) {
  auto writer = TokenShardWriter::Create(path, vocabulary, 0x1234);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) ASSERT_TRUE((*writer)->AddDocument(document).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

TEST(TokenShard, ReturnsWhatWasWrittenWithNarrowAndWideTokens) {
  const TemporaryFolder folder;
  for (const int64_t vocabulary : {7, 65536, 65537, 100000}) {
    SCOPED_TRACE(vocabulary);
    const auto last = static_cast<int32_t>(vocabulary - 1);
    const std::string path = folder / "shard.ids";
    Write(path, vocabulary, {{0, 1, 2, last}, {last}, {5, 5, 6}});
    const auto shard = TokenShard::Open(path);
    ASSERT_TRUE(shard.ok()) << shard.status();
    EXPECT_EQ((*shard)->tokens(), 8);
    EXPECT_EQ((*shard)->token_bytes(), vocabulary <= 65536 ? 2 : 4);
    EXPECT_EQ((*shard)->tokenizer_fingerprint(), 0x1234u);
    EXPECT_THAT((*shard)->document_starts(), ElementsAre(0, 4, 5));
    EXPECT_EQ((*shard)->counts()[static_cast<size_t>(last)], last == 6 ? 3u : 2u);
    std::vector<int32_t> tokens(5);
    ASSERT_TRUE((*shard)->Read(3, absl::MakeSpan(tokens)).ok());
    EXPECT_THAT(tokens, ElementsAre(last, last, 5, 5, 6));
    EXPECT_TRUE((*shard)->Verify().ok());
  }
}

TEST(TokenShard, EveryFlippedByteIsFound) {
  const TemporaryFolder folder;
  const std::string path = folder / "shard.ids";
  Write(path, 11, {{1, 2, 3, 10}, {4, 5, 10}, {10}});
  const std::string good = ReadText(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    WriteText(path, bad);
    const auto shard = TokenShard::Open(path);
    EXPECT_FALSE(shard.ok() && (*shard)->Verify().ok()) << "byte " << i;
  }
}

TEST(TokenShard, EveryTruncationIsFound) {
  const TemporaryFolder folder;
  const std::string path = folder / "shard.ids";
  Write(path, 11, {{1, 2, 3, 10}, {4, 5, 10}});
  const std::string good = ReadText(path);
  for (size_t size = 0; size < good.size(); ++size) {
    WriteText(path, good.substr(0, size));
    EXPECT_EQ(TokenShard::Open(path).status().code(), absl::StatusCode::kDataLoss) << size << " bytes";
  }
  WriteText(path, good + "x");
  EXPECT_THAT(std::string(TokenShard::Open(path).status().message()), HasSubstr("something was added"));
}

TEST(TokenShard, TokensOutsideOfTheVocabularyAreNotWritten) {
  const TemporaryFolder folder;
  auto writer = TokenShardWriter::Create(folder / "shard.ids", 10, 0);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE((*writer)->AddDocument(std::vector<int32_t>{3, 10}).ok());
  EXPECT_FALSE((*writer)->AddDocument(std::vector<int32_t>{-1}).ok());
  EXPECT_FALSE((*writer)->AddDocument({}).ok());
}

TEST(TokenShard, AppearsOnlyWhenItIsComplete) {
  const TemporaryFolder folder;
  {
    auto writer = TokenShardWriter::Create(folder / "shard.ids", 10, 0);
    ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>{3}).ok());
    EXPECT_FALSE(std::filesystem::exists(folder / "shard.ids"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenShard, UnigramEntropyOfUniformCountsIsTheLogarithm) {
  EXPECT_NEAR(UnigramEntropy(std::vector<uint64_t>{5, 5, 0, 5, 5}), std::log(4), 1e-12);
  EXPECT_NEAR(UnigramEntropy(std::vector<uint64_t>{3, 1}), std::log(4) - 0.75 * std::log(3), 1e-12);
  EXPECT_EQ(UnigramEntropy(std::vector<uint64_t>{0, 9}), 0);
  EXPECT_EQ(UnigramEntropy(std::vector<uint64_t>{0, 0}), 0);
}

}  // namespace
}  // namespace isthmus
