#include "runtime/data/tokenizer.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/data/document_reader.h"
#include "runtime/durable_file.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using testing::MakeCorpus;
using testing::TemporaryFolder;
using testing::WriteText;

class TokenizerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    WriteText(*folder_ / "corpus.jsonl", MakeCorpus(200, 5));
    const auto model = TrainTokenizer(Training());
    ASSERT_TRUE(model.ok()) << model.status();
    WriteText(*folder_ / "tokenizer.model", *model);
  }
  static void TearDownTestSuite() { delete folder_; }
  static TokenizerTraining Training() { return {.files = {*folder_ / "corpus.jsonl"}, .vocabulary = 300}; }
  static std::unique_ptr<Tokenizer> Load() { return *Tokenizer::Load(*folder_ / "tokenizer.model"); }
  static TemporaryFolder* folder_;
};
TemporaryFolder* TokenizerTest::folder_ = nullptr;

TEST_F(TokenizerTest, EveryTextComesBackAsItWas) {
  const auto tokenizer = Load();
  for (const std::string text :
       {"the cat sees a red house", "", " ", "  two  spaces ", "\n", "line\n\n\tindented\r\n", "Grüße, 世界 🌍",
        "unseen \x01 control", "▁ and <unk> and </s> and <0x41>", "12345 67"}) {
    std::vector<int32_t> ids;
    ASSERT_TRUE(tokenizer->Encode(text, ids).ok());
    for (const int32_t id : ids) ASSERT_LT(id, tokenizer->vocabulary());
    const auto back = tokenizer->Decode(ids);
    ASSERT_TRUE(back.ok());
    // SentencePiece writes the space as U+2581: that character itself comes back as a space.
    std::string expected = text;
    for (size_t at; (at = expected.find("▁")) != std::string::npos;) expected.replace(at, 3, " ");
    EXPECT_EQ(*back, expected);
  }
}

TEST_F(TokenizerTest, TextMayBeEncodedLineByLine) {
  const auto tokenizer = Load();
  const std::string first = "the cat sees\n", second = "a red house. \n", third = " some bread";
  std::vector<int32_t> whole, parts;
  ASSERT_TRUE(tokenizer->Encode(first + second + third, whole).ok());
  for (const auto& part : {first, second, third}) ASSERT_TRUE(tokenizer->Encode(part, parts).ok());
  EXPECT_EQ(whole, parts);
}

TEST_F(TokenizerTest, LearntWordsAreShorterThanTheirBytes) {
  const auto tokenizer = Load();
  std::vector<int32_t> ids;
  const std::string text = "the old river remembers the morning light";
  ASSERT_TRUE(tokenizer->Encode(text, ids).ok());
  EXPECT_LT(ids.size(), text.size() * 3 / 4);
}

TEST_F(TokenizerTest, TheSameTextGivesTheSameModel) {
  auto training = Training();
  EXPECT_EQ(*TrainTokenizer(training), testing::ReadText(*folder_ / "tokenizer.model"));
  training.sample_bytes = 5000;
  const auto sample = *TrainTokenizer(training);
  EXPECT_EQ(sample, *TrainTokenizer(training));
  training.seed = 2;
  EXPECT_NE(sample, *TrainTokenizer(training));
}

TEST_F(TokenizerTest, IdsThatAreNoTokensAreRejected) {
  const auto tokenizer = Load();
  EXPECT_EQ(tokenizer->Decode({static_cast<int32_t>(tokenizer->vocabulary())}).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_FALSE(tokenizer->Decode({-1}).ok());
}

std::string Gzip(const std::string& text) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "text.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return testing::ReadText(path);
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string Documents(const std::vector<std::string>& files, absl::Status* status = nullptr) {
  std::string all;
  const absl::Status read = ReadDocuments(files, "text",
                                          {.visit =
                                               [&](const std::string& line) {
                                                 all += "[" + line + "]";
                                                 return absl::OkStatus();
                                               },
                                           .end_of_document =
                                               [&] {
                                                 all += "|";
                                                 return absl::OkStatus();
                                               }});
  if (status != nullptr) {
    *status = read;
  } else {
    EXPECT_TRUE(read.ok()) << read;
  }
  return all;
}

TEST(DocumentReader, EveryFormatGivesTheSameDocuments) {
  const TemporaryFolder folder;
  const std::string text = "one\ntwo\r\n\nlast",
                    json = "{\"text\": \"one\\ntwo\"}\n\n{\"id\": 1, \"text\": \"three\"}\r\n";
  WriteText(folder / "a.txt", text);
  WriteText(folder / "b.txt.gz", Gzip(text));
  WriteText(folder / "c.txt.zst", Zstd(text) + Zstd("more"));
  WriteText(folder / "d.jsonl", json);
  WriteText(folder / "e.jsonl.gz", Gzip(json));
  WriteText(folder / "f.jsonl.zst", Zstd(json));
  EXPECT_EQ(Documents({folder / "a.txt"}), "[one\n][two\n][\n][last\n]|");
  EXPECT_EQ(Documents({folder / "b.txt.gz"}), Documents({folder / "a.txt"}));
  EXPECT_EQ(Documents({folder / "c.txt.zst"}), "[one\n][two\n][\n][lastmore\n]|");
  for (const char* file : {"d.jsonl", "e.jsonl.gz", "f.jsonl.zst"}) {
    EXPECT_EQ(Documents({folder / file}), "[one\n][two]|[three]|") << file;
  }
}

TEST(DocumentReader, WhatAFolderHoldsBesideTextsIsNamed) {
  const TemporaryFolder folder;
  for (const char* name : {"a.txt", "b.jsonl.zst", "c.txt.xz", "d.TXT", "e.json"}) WriteText(folder / name, "");
  std::filesystem::create_directories(folder / "more/texts");
  std::filesystem::create_directory(folder / "folder.txt");
  std::vector<std::string> left_out;
  const auto found = FindTextFiles({folder.path(), folder / "e.json"}, left_out);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, (std::vector<std::string>{folder / "a.txt", folder / "b.jsonl.zst", folder / "e.json"}));
  EXPECT_EQ(left_out, (std::vector<std::string>{folder / "c.txt.xz", folder / "d.TXT", folder / "e.json",
                                                folder / "folder.txt", folder / "more"}));
}

TEST(DocumentReader, TruncatedCompressedDataIsFoundWhereverItIsCut) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += std::to_string(i * 7919) + "\n";
  for (const auto& [name, data] :
       {std::pair<std::string, std::string>{"x.txt.gz", Gzip(text)}, {"x.txt.zst", Zstd(text)}}) {
    for (size_t size = 20; size < data.size(); size += data.size() / 7) {
      WriteText(folder / name, data.substr(0, size));
      absl::Status status;
      Documents({folder / name}, &status);
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << name << " cut at " << size;
    }
  }
}

TEST(DocumentReader, TextThatIsNotUtf8IsRejected) {
  const TemporaryFolder folder;
  for (const std::string bad : {"\xC3", "\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xFF"}) {
    WriteText(folder / "x.txt", "good\n" + bad + "\n");
    absl::Status status;
    Documents({folder / "x.txt"}, &status);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(status.message()).find("x.txt:2"), std::string::npos);
  }
  WriteText(folder / "x.txt", "é € 🌍 \xEF\xBF\xBD \xF4\x8F\xBF\xBF\n");
  EXPECT_NE(Documents({folder / "x.txt"}), "");
}

TEST(DurableFile, OldContentsStayUntilTheNewAreComplete) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteDurably(folder / "file", "old").ok());
  {
    auto file = DurableFile::Create(folder / "file");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append("new and longer", 14).ok());
    EXPECT_EQ(*ReadFile(folder / "file"), "old");
  }
  EXPECT_EQ(*ReadFile(folder / "file"), "old");
  ASSERT_TRUE(WriteDurably(folder / "file", "new").ok());
  EXPECT_EQ(*ReadFile(folder / "file"), "new");
  EXPECT_EQ(WriteDurably(folder / "no/file", "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(WriteDurably("/dev/full/x", "x").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace isthmus
