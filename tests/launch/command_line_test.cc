// The program's texts about itself, and about requests that it could not meet.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

TEST(CommandLine, VersionIsOneLineAndHelpOfACommandIsItsOwn) {
  const ProgramResult version = RunIsthmus("--version");
  EXPECT_EQ(version.exit_status, 0) << version.out;
  EXPECT_EQ(version.out.rfind("isthmus 0.1.0, for ", 0), 0u) << version.out;
  EXPECT_EQ(version.Count("\n"), 1) << version.out;
  EXPECT_EQ(version.Count("Open MPI"), 1) << version.out;
  EXPECT_EQ(RunIsthmus("version").out, version.out);
  for (const std::string command : {"train", "tokenizer train", "doctor"}) {
    const ProgramResult help = RunIsthmus("help " + command);
    EXPECT_EQ(help.exit_status, 0);
    EXPECT_EQ(help.out.rfind("usage: isthmus " + command, 0), 0u) << help.out;
    EXPECT_EQ(help.out, RunIsthmus(command + " --help").out);
  }
  EXPECT_EQ(RunIsthmus("help help").out, RunIsthmus("help").out);
  EXPECT_EQ(RunIsthmus("help fly").exit_status, 2);
  EXPECT_EQ(RunIsthmus("checkpoint show --help").Count("FOLDER [FOLDER]\n"), 1);
}

TEST(CommandLine, TheProgramIsNamedOnceInAnError) {
  for (const char* command : {"train", "report", "decompose"}) {
    const ProgramResult result = RunIsthmus(absl::StrCat(command, " --nonsense"));
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_EQ(result.out.rfind(absl::StrCat("isthmus: ", command, ": unknown option --nonsense"), 0), 0u) << result.out;
  }
}

// Otherwise the next file that the program opens gets the number, and messages are written into it.
TEST(CommandLine, StandardStreamsThatAreClosedAreTakenFirst) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  // The shell can open the pipe once the program opens it, too: then `main` has begun.
  const ProgramResult result =
      RunShell(absl::StrCat("mkfifo ", pipe, "; ", ProgramPath(), " plan --config ", pipe, " <&- >&- 2>&- & exec 7>",
                            pipe, "; for stream in 0 1 2; do readlink /proc/$!/fd/$stream; done; exec 7>&-; wait $!"));
  EXPECT_EQ(result.Count("/dev/null\n"), 3) << result.out;
  // Nobody can read the message.
  EXPECT_EQ(result.exit_status, 2);
  // Results that can't be written are still an error, and training goes on without a reader.
  EXPECT_EQ(RunShell(ProgramPath() + " version >&-").exit_status, 2);
  const TinyProject project;
  const ProgramResult trained =
      RunShell(absl::StrCat("OMP_NUM_THREADS=1 ", ProgramPath(), " train --config ", project.WriteConfig("closed"),
                            " --set schedule.steps=2 <&- >&- 2>&-"));
  EXPECT_EQ(trained.exit_status, 0);
  EXPECT_TRUE(std::filesystem::exists(project / "closed/checkpoints/step-00000002/manifest.pb"));
}

TEST(CommandLine, ATextTooSmallForItsVocabularyOrForValidationIsSaid) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i) absl::StrAppend(&text, "the cat number ", i, " sees the dog\n");
  WriteText(folder / "small.txt", text);
  const std::string model = folder / "small.model";
  const ProgramResult trained =
      RunIsthmus(absl::StrCat("tokenizer train --vocabulary 32000 --out ", model, " ", folder / "small.txt"));
  EXPECT_EQ(trained.exit_status, 0) << trained.out;
  EXPECT_EQ(trained.Count(" tokens of the 32000 asked for: the text has no more\n"), 1) << trained.out;
  const auto encode = [&](const char* more, const char* out) {
    return RunIsthmus(
        absl::StrCat("tokenizer encode --tokenizer ", model, more, " --out ", folder / out, " ", folder / "small.txt"));
  };
  const ProgramResult one = encode(" --validation-fraction 0.01", "one");
  EXPECT_EQ(one.exit_status, 0) << one.out;
  EXPECT_EQ(one.Count("0 documents for validation; leave data.validation empty"), 1) << one.out;
  EXPECT_EQ(encode("", "none").Count("leave data.validation empty"), 0);
}

}  // namespace
}  // namespace isthmus::testing
