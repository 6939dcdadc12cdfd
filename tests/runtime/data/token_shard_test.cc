#include "runtime/data/token_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <cmath>
#include <cstddef>
#include <cstring>
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
    std::vector<uint64_t> starts(3);
    ASSERT_TRUE((*shard)->ReadDocumentStarts(0, absl::MakeSpan(starts)).ok());
    EXPECT_THAT(starts, ElementsAre(0, 4, 5));
    const auto counts = (*shard)->ReadCounts();
    ASSERT_TRUE(counts.ok()) << counts.status();
    EXPECT_EQ((*counts)[static_cast<size_t>(last)], last == 6 ? 3u : 2u);
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

TEST(TokenShard, AFileThatIsCutAfterItWasOpenedIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder / "shard.ids";
  for (const auto files : {TokenShard::Files::kStayOpen, TokenShard::Files::kOpenedForEachRead}) {
    Write(path, 11, {std::vector<int32_t>(10'000, 3)});
    const auto shard = TokenShard::Open(path, files);
    ASSERT_TRUE(shard.ok()) << shard.status();
    std::vector<int32_t> tokens(1000);
    ASSERT_TRUE((*shard)->Read(9000, absl::MakeSpan(tokens)).ok());
    std::filesystem::resize_file(path, 4096);
    const absl::Status status = (*shard)->Read(9000, absl::MakeSpan(tokens));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("ends at byte"));
    EXPECT_FALSE((*shard)->VerifyChecksum().ok());
    EXPECT_FALSE((*shard)->ReadCounts().ok());
  }
}

TEST(TokenShard, AChecksumThatIsBeingReadCanBeStopped) {
  const TemporaryFolder folder;
  Write(folder / "shard.ids", 11, {std::vector<int32_t>(2'000'000, 3)});  // 4 MB
  const auto shard = TokenShard::Open(folder / "shard.ids");
  ASSERT_TRUE(shard.ok()) << shard.status();
  int blocks = 0;
  const absl::Status stopped = (*shard)->VerifyChecksum(
      [&] { return ++blocks == 3 ? absl::CancelledError("stopped by SIGTERM") : absl::OkStatus(); });
  EXPECT_EQ(stopped, absl::CancelledError("stopped by SIGTERM"));
  EXPECT_EQ(blocks, 3);
  EXPECT_TRUE((*shard)->VerifyChecksum([] { return absl::OkStatus(); }).ok());
}

TEST(TokenShard, AnotherFileUnderTheNameOfOneThatIsOpenedForEachReadIsNoticed) {
  const TemporaryFolder folder;
  const std::string path = folder / "shard.ids";
  Write(path, 11, {{1, 2, 3}});
  const auto shard = TokenShard::Open(path, TokenShard::Files::kOpenedForEachRead);
  Write(folder / "other.ids", 11, {{4, 5, 6}});
  std::filesystem::rename(folder / "other.ids", path);
  std::vector<int32_t> tokens(3);
  EXPECT_THAT(std::string((*shard)->Read(0, absl::MakeSpan(tokens)).message()), HasSubstr("is another file"));
}

// Headers with right checksums, in files with holes that have the stated sizes.
TEST(TokenShard, HostileSizesAreRejectedBeforeMemoryIsTaken) {
  const TemporaryFolder folder;
  const std::string path = folder / "shard.ids";
  Write(path, 11, {{1, 2, 10}});
  const std::string good = ReadText(path);
  const auto open = [&](uint64_t tokens, uint64_t documents, uint64_t vocabulary, int64_t bytes) {
    TokenShardHeader header;
    std::memcpy(&header, good.data(), sizeof(header));
    header.tokens = tokens;
    header.documents = documents;
    header.vocabulary = vocabulary;
    header.header_checksum = XXH3_64bits(&header, offsetof(TokenShardHeader, header_checksum));
    std::string bad = good;
    std::memcpy(bad.data(), &header, sizeof(header));
    WriteText(path, bad);
    std::filesystem::resize_file(path, static_cast<uintmax_t>(bytes));
    return TokenShard::Open(path);
  };
  const auto size = static_cast<int64_t>(good.size());
  ASSERT_TRUE(open(3, 1, 11, size).ok());
  EXPECT_THAT(std::string(open(3, 1, uint64_t{1} << 33, 128 + 8 + 8 + (int64_t{8} << 33)).status().message()),
              HasSubstr("vocabulary of 8589934592; accepts 1 to 16777216"));
  EXPECT_FALSE(open(3, 1, 0, 144).ok());
  for (const uint64_t huge : {uint64_t{1} << 61, uint64_t{1} << 62, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_FALSE(open(huge, 1, 11, size).ok()) << huge;
    EXPECT_FALSE(open(huge, huge, 11, size).ok()) << huge;
    EXPECT_FALSE(open(3, huge, 11, size).ok()) << huge;
    EXPECT_FALSE(open(3, 1, huge, size).ok()) << huge;
  }
  EXPECT_FALSE(open(3, 4, 11, size + 24).ok()) << "more documents than tokens";
  // With four tokens the file has the same size but other sections, so the counts do not add up.
  const auto counts = open(4, 1, 11, size);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_THAT(std::string((*counts)->ReadCounts().status().message()), HasSubstr("do not add up to its 4 tokens"));
}

TEST(TokenShard, APipeIsNotWaitedFor) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "x.ids").c_str(), 0600), 0);
  EXPECT_THAT(std::string(TokenShard::Open(folder / "x.ids").status().message()), HasSubstr("is a pipe"));
}

TEST(TokenShard, ADocumentMayBeWrittenInParts) {
  const TemporaryFolder folder;
  Write(folder / "whole.ids", 11, {{1, 2, 3}, {4, 10}});
  auto writer = TokenShardWriter::Create(folder / "parts.ids", 11, 0x1234);
  for (const std::vector<int32_t>& part : std::vector<std::vector<int32_t>>{{1}, {}, {2, 3}}) {
    ASSERT_TRUE((*writer)->AddTokens(part).ok());
  }
  ASSERT_TRUE((*writer)->EndDocument().ok());
  EXPECT_FALSE((*writer)->EndDocument().ok());
  ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>{4, 10}).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ(ReadText(folder / "parts.ids"), ReadText(folder / "whole.ids"));
}

TEST(TokenShard, UnigramEntropyOfUniformCountsIsTheLogarithm) {
  EXPECT_NEAR(UnigramEntropy(std::vector<uint64_t>{5, 5, 0, 5, 5}), std::log(4), 1e-12);
  EXPECT_NEAR(UnigramEntropy(std::vector<uint64_t>{3, 1}), std::log(4) - 0.75 * std::log(3), 1e-12);
  EXPECT_EQ(UnigramEntropy(std::vector<uint64_t>{0, 9}), 0);
  EXPECT_EQ(UnigramEntropy(std::vector<uint64_t>{0, 0}), 0);
}

}  // namespace
}  // namespace isthmus
