// Documents are read as their writers meant them, and a line that is none is named with its place and the reason.
#include "runtime/data/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WriteText;

class DocumentLines : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Read(const std::string& lines) {
    WriteText(folder_ / "x.jsonl", lines);
    std::string text;
    const absl::Status status = ReadDocuments({folder_ / "x.jsonl"}, "text",
                                              {.visit =
                                                   [&](const std::string& line) {
                                                     text += line;
                                                     return absl::OkStatus();
                                                   },
                                               .end_of_document =
                                                   [&] {
                                                     text += "|";
                                                     return absl::OkStatus();
                                                   }});
    if (!status.ok()) return status;
    return text;
  }
  std::string ErrorOf(const std::string& lines) { return std::string(Read(lines).status().message()); }
  TemporaryFolder folder_;
};

TEST_F(DocumentLines, HalvesOfSurrogatePairsAreReplaced) {
  EXPECT_EQ(*Read(R"({"text": "a\ud800b"})"), "a\uFFFDb|");
  EXPECT_EQ(*Read(R"({"text": "\uDC00\uD834\uDD1E\ud834"})"), "\uFFFD\U0001D11E\uFFFD|");
  EXPECT_EQ(*Read(R"({"text": "\ud800\ud834\udd1e \ud800\n\udfff\u0041"})"), "\uFFFD\U0001D11E \uFFFD\n\uFFFDA|");
  // In another field they do not matter, and behind an escaped backslash they are letters.
  EXPECT_EQ(*Read(R"({"\ud800": "\udc00", "text": "\\ud800 \\\ud800"})"), "\\ud800 \\\uFFFD|");
}

TEST_F(DocumentLines, AnErrorOfTheParserHasItsPlaceAndReason) {
  EXPECT_THAT(ErrorOf("{\"text\": \"a\"}\n{\"text\": \"a\", \"x\": 1e400}\n"),
              EndsWith("x.jsonl:2: is not a JSON object (byte 24: number overflow parsing '1e400')"));
  EXPECT_THAT(ErrorOf(R"({"x": NaN})"),
              EndsWith("is not a JSON object (byte 7: syntax error while parsing value - invalid literal)"));
  EXPECT_THAT(ErrorOf(R"({"text": "\ud800)"), HasSubstr("invalid string: missing closing quote"));
  EXPECT_THAT(ErrorOf("{\"text\": \"\\ud800\", \"x\": \"\xFF\"}"), EndsWith("the text is not UTF-8"));
  EXPECT_THAT(ErrorOf("[1]"), EndsWith("x.jsonl:1: is not a JSON object"));
  EXPECT_LT(ErrorOf("{\"x\": 1" + std::string(100'000, '0') + "}").size(), 500u);
}

TEST_F(DocumentLines, AFileInAFolderThatMayNotBeEnteredIsNotMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const std::string shut = folder_ / "shut";
  std::filesystem::create_directory(shut);
  WriteText(shut + "/x.txt", "a");
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(shut.c_str(), 0700), 0);
  std::vector<std::string> left_out;
  const pid_t child = fork();
  if (child == 0) {
    const bool nobody = setgid(65534) == 0 && setuid(65534) == 0;
    _exit(nobody && absl::IsPermissionDenied(FindTextFiles({shut + "/x.txt"}, left_out).status()) &&
                  absl::IsNotFound(FindTextFiles({folder_ / "x.txt"}, left_out).status())
              ? 0
              : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace isthmus
