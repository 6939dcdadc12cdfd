// A vocabulary is learnt from all of a text, whatever its lines are, and is the same on every machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/data/sentence_piece.h"
#include "runtime/data/text_cut.h"
#include "runtime/data/tokenizer.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WriteText;

std::vector<std::string> PartsOf(const std::string& text, int64_t bytes, int64_t characters) {
  std::vector<std::string> parts;
  EXPECT_TRUE(VisitParts(text, {.bytes = bytes, .characters = characters}, [&](absl::string_view part) {
                parts.emplace_back(part);
                return absl::OkStatus();
              }).ok());
  return parts;
}

TEST(TextCut, IsWhereWordsBeginIfItCanBe) {
  EXPECT_THAT(PartsOf("", 8, 8), ElementsAre(""));
  EXPECT_THAT(PartsOf("one two", 8, 8), ElementsAre("one two"));
  EXPECT_THAT(PartsOf("one two three", 8, 8), ElementsAre("one two", " three"));
  EXPECT_THAT(PartsOf("one two three", 99, 8), ElementsAre("one two", " three"));
  EXPECT_THAT(PartsOf("a b c d e f g", 99, 4), ElementsAre("a b", " c d", " e f", " g"));
  EXPECT_THAT(PartsOf("one   two", 6, 8), ElementsAre("one", "   two"));
  EXPECT_THAT(PartsOf("one▁two", 8, 8), ElementsAre("one", "▁two"));
  EXPECT_THAT(PartsOf("abcdefgh", 4, 8), ElementsAre("abcd", "efgh"));
  EXPECT_THAT(PartsOf("abcdefgh ij", 99, 3), ElementsAre("abc", "def", "gh", " ij"));
  EXPECT_THAT(PartsOf("ééééé", 5, 8), ElementsAre("éé", "éé", "é"));
  EXPECT_THAT(PartsOf("      ", 4, 3), ElementsAre("   ", "   "));
}

TEST(TextCut, PartsAreWithinTheLimitsAndMakeUpTheText) {
  EXPECT_THAT(PartsOf("a b字字字", 8, 99), ElementsAre("a", " b字字", "字"));
  EXPECT_THAT(PartsOf("a b字字𝄞", 8, 99), ElementsAre("a", " b字字", "𝄞"));
  EXPECT_THAT(PartsOf("a 字字𝄞", 8, 99), ElementsAre("a", " 字字", "𝄞"));
  const std::vector<std::string> characters = {"a", " ", "é", "▁", "字", "𝄞"};
  for (uint32_t seed = 0; seed < 20'000; ++seed) {
    std::string text;
    for (uint32_t i = 0, bits = seed * 2654435761U + 12345; i < 16; ++i) {
      bits = bits * 1664525U + 1013904223U;
      text += characters[(bits >> 16) % characters.size()];
    }
    for (const int64_t most : {4, 5, 7, 8, 13}) {
      for (const int64_t most_characters : {1, 3, 99}) {
        std::string all;
        for (const std::string& part : PartsOf(text, most, most_characters)) {
          ASSERT_LE(static_cast<int64_t>(part.size()), most) << text;
          ASSERT_LE(std::count_if(part.begin(), part.end(), [](char c) { return (c & 0xC0) != 0x80; }), most_characters)
              << text;
          all += part;
        }
        ASSERT_EQ(all, text);
      }
    }
  }
}

class TokenizerTrainingTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Train(const std::string& text, int64_t vocabulary = 300, int64_t sample_bytes = 0) {
    WriteText(folder_ / "x.txt", text);
    return TrainTokenizer({.files = {folder_ / "x.txt"}, .vocabulary = vocabulary, .sample_bytes = sample_bytes});
  }
  // Returns lines of words; all but the first begin with a space.
  static std::vector<std::string> Lines(size_t bytes) {
    std::vector<std::string> lines = {"the cat"};
    for (size_t size = 0; size < bytes; size += lines.back().size()) {
      lines.push_back(" sees house number " + std::to_string(lines.size() * 7919 % 1000) + " and the red river");
    }
    return lines;
  }
  TemporaryFolder folder_;
};

TEST_F(TokenizerTrainingTest, LongLinesAreLearntFromAsShortOnesAre) {
  std::string one, many;
  for (const std::string& line : Lines(200'000)) {
    one += line;
    many += line + "\n";
  }
  const auto model = Train(one);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(*model, *Train(many));
  // One line is larger than the sample, so it is taken in parts.
  EXPECT_TRUE(Train(one, 300, 140'000).ok());
}

TEST_F(TokenizerTrainingTest, WordsOfAnyLengthEndNoTraining) {
  std::string letters;
  for (int i = 0; i < 40'000; ++i) letters += static_cast<char>('a' + i * 7919 % 26);
  for (const std::string& word :
       {std::string(32'770, '-'), std::string(40'000, ' ') + "x", letters, std::string(200'000, '=') + " " + letters}) {
    const auto model = Train("the cat sees a red house\n" + word + "\n");
    EXPECT_TRUE(model.ok()) << model.status();
  }
}

// The library drops a line above its limit without a word.
TEST_F(TokenizerTrainingTest, LinesAtTheLimitAreLearntFrom) {
  std::string line = "a b";
  for (int i = 0; i < 21'845; ++i) line += "字";
  EXPECT_EQ(*Train(line + "\n"), *Train("a\n" + line.substr(1) + "\n"));
  EXPECT_EQ(*Train(line + "\n"), *Train("a\n" + line.substr(1, 65'534) + "\n字\n"));
}

TEST_F(TokenizerTrainingTest, ASampleWithoutALineIsNoEmptyCorpus) {
  const auto model = Train("the cat\n", 300, 1);
  ASSERT_FALSE(model.ok()) << "the seed chooses no line of one";
  const std::string message(model.status().message());
  EXPECT_THAT(message, HasSubstr("--sample-bytes: 1; none of the lines of "));
  EXPECT_THAT(message, HasSubstr("which have 7 bytes of text"));
}

TEST_F(TokenizerTrainingTest, LinesWithTheReservedCharacterAreLearntFrom) {
  const auto model = Train("██▅▅ a zebra\n▅a zebra▅\n");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = Tokenizer::Parse(*model, "x");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> ids;
  ASSERT_TRUE((*tokenizer)->Encode("a zebra ▅", ids).ok());
  EXPECT_EQ(*(*tokenizer)->Decode(ids), "a zebra ▅");
  EXPECT_LT(ids.size(), 7u) << "the words were not learnt";
  EXPECT_THAT(std::string(Train("▅▅\n").status().message()), HasSubstr("no text to train a vocabulary on"));
}

TEST_F(TokenizerTrainingTest, AVocabularyThatCharactersDoNotFitIsNamedWithTheLeast) {
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += std::string("\xE4") + static_cast<char>(0xB8 + i / 64) + static_cast<char>(0x80 + i % 64);
  const auto small = Train(text + "\n", 300);
  ASSERT_FALSE(small.ok());
  EXPECT_THAT(std::string(small.status().message()), HasSubstr("--vocabulary: 300; this text needs at least 359"));
  EXPECT_TRUE(Train(text + "\n", 359).ok());
}

TEST_F(TokenizerTrainingTest, OddTextsEndNoTraining) {
  using std::string_literals::operator""s;
  for (const std::string& text : {"\t\t\t\na\n"s, "a\0b\n"s, "\0\0\n"s, "▁▁ ▁\n"s, "a\n"s,
                                  "<unk> </s> <|endoftext|> <0x41>\n"s, "\xEF\xBF\xBF \xEF\xBF\xBE\n"s}) {
    const auto model = Train(text);
    EXPECT_TRUE(model.ok()) << text << ": " << model.status();
  }
}

// A field of a protocol buffer message that has a length; `number` below 16.
std::string Lengthy(char number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size() % 128 | 128) +
         static_cast<char>(bytes.size() / 128) + bytes;
}

// Without the check the library would read memory wherever the table points to.
TEST_F(TokenizerTrainingTest, ModelsWithADamagedNormalizationTableAreRejected) {
  const auto model = Train("the cat\n");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE(Tokenizer::Parse(*model, "x").ok());
  // normalizer_spec (3) or denormalizer_spec (5) with precompiled_charsmap (2): a length, a trie, strings.
  const std::string size("\x00\x04\x00\x00", 4);
  for (const char field : {3, 5}) {
    const auto with_table = [&](const std::string& table) { return *model + Lengthy(field, Lengthy(2, table)); };
    for (const std::string& table :
         {size + std::string(1024, '\xFF') + std::string(8, '\0'),
          size + std::string(1024, '\x7F') + std::string(8, '\0'), size + std::string(1024, '\0') + "no end",
          std::string("\x04\0\0\0abcde\0", 10), std::string("\0\0\0", 3)}) {
      EXPECT_THAT(std::string(Tokenizer::Parse(with_table(table), "x").status().message()),
                  HasSubstr("its normalization table is damaged"));
    }
    EXPECT_TRUE(Tokenizer::Parse(with_table(size + std::string(1032, '\0')), "x").ok());
  }
}

// The library passes over fields that it does not know, and finds a damaged table behind them.
TEST_F(TokenizerTrainingTest, ModelsThatCanNotBeReadToTheirEndAreRejected) {
  using std::string_literals::operator""s;
  const auto model = Train("the cat\n");
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string table = Lengthy(2, "\x00\x04\x00\x00"s + std::string(1024, '\xFF') + std::string(8, '\0'));
  const std::string group = "\xA3\x06\xA4\x06"s;  // field 100, empty
  for (const std::string& hidden :
       {group + Lengthy(3, table), Lengthy(3, group + table), group, Lengthy(3, group),
        // A tag whose lower 32 bits are those of the field, tags without a number, and ends within a field.
        "\x9A\x80\x80\x80\x10"s + Lengthy(3, table).substr(1), "\0\0"s, "\x02\0"s, "\xA0"s, "\x98\x06\x80"s,
        "\x9A\x06\x05"s, "\x99\x06"s, "\x9D\x06"s, "\x9F\x06"s}) {
    EXPECT_THAT(std::string(Tokenizer::Parse(*model + hidden, "x").status().message()),
                HasSubstr("it is damaged or of another format"));
  }
  // Fields that the library does not know, of every other kind.
  EXPECT_TRUE(
      Tokenizer::Parse(*model + "\x98\x06\x05\x9A\x06\x01z\x99\x06\0\0\0\0\0\0\0\0\x9D\x06\0\0\0\0"s, "x").ok());
}

// Texts are cut because the library takes some hundred bytes of memory for each byte that it encodes at once.
TEST_F(TokenizerTrainingTest, LongTextsHaveTheTokensOfAWholeOne) {
  const auto model = Train("the cat\n sees house number 12 and the red river\n");
  ASSERT_TRUE(model.ok()) << model.status();
  SentencePieceModel library;
  ASSERT_EQ(library.Load(*model), "");
  const auto tokens = [&library](const std::string& text) {
    std::vector<int> ids;
    EXPECT_EQ(library.Encode(text.data(), text.size(), ids), "");
    return ids;
  };
  std::string words;
  for (const std::string& line : Lines(200)) words += line;
  const size_t cut = words.find("number") + 3;
  EXPECT_NE(tokens(words.substr(0, cut)).size() + tokens(words.substr(cut)).size(), tokens(words).size());
  // That would be the cut at 256 KiB; newlines, which merge with nothing, take the library little time.
  const std::string text = std::string((1 << 18) - cut, '\n') + words;
  const std::vector<int> whole = tokens(text);
  std::vector<int32_t> parts;
  ASSERT_TRUE((*Tokenizer::Parse(*model, "x"))->Encode(text, parts).ok());
  EXPECT_TRUE(parts == std::vector<int32_t>(whole.begin(), whole.end()));
}

}  // namespace
}  // namespace isthmus
