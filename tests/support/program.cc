#include "tests/support/program.h"

#include <absl/strings/str_cat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "runtime/philox.h"
#include "tests/support/paths.h"

namespace isthmus::testing {
namespace {

std::string CommandLine(const std::string& program, const std::string& arguments, int ranks) {
  if (ranks == 0) return absl::StrCat("OMP_NUM_THREADS=1 ", program, " ", arguments);
  return absl::StrCat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ", LauncherPath(),
                      " --oversubscribe --bind-to none -n ", ranks, " ", program, " ", arguments);
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = std::filesystem::temp_directory_path().string() + "/isthmus-test-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

int ProgramResult::Count(const std::string& text) const {
  int count = 0;
  for (size_t at = out.find(text); at != std::string::npos; at = out.find(text, at + text.size())) ++count;
  return count;
}

ProgramResult RunShell(const std::string& command, int seconds) {
  ProgramResult result;
  const std::string limited =
      absl::StrCat("timeout --signal=KILL ", seconds, " bash -c '", command, "' 2>&1 </dev/null");
  std::FILE* pipe = popen(limited.c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0) result.out.append(buffer, got);
  const int status = pclose(pipe);
  // Open MPI 5 ends a message with NUL. Regular expressions of GoogleTest would not look behind it.
  std::erase(result.out, '\0');
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

ProgramResult RunIsthmus(const std::string& arguments, int ranks, int seconds) {
  return RunShell(CommandLine(ProgramPath(), arguments, ranks), seconds);
}

ProgramResult RunWithFaults(const std::string& faults, const std::string& arguments, int ranks, int seconds,
                            const std::string& log) {
  return RunShell(absl::StrCat("ISTHMUS_FAULTS=\"", faults, "\" ISTHMUS_FAULT_LOG=\"", log, "\" ",
                               CommandLine(ProgramWithFaultsPath(), arguments, ranks)),
                  seconds);
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::string MakeCorpus(int documents, uint64_t seed) {
  static constexpr const char* kSubjects[] = {"the cat", "a small bird", "her brother", "the old river", "my teacher"};
  static constexpr const char* kVerbs[] = {"sees", "follows", "remembers", "paints", "forgets", "carries"};
  static constexpr const char* kObjects[] = {"a red house",    "the long road", "some bread", "the morning light",
                                             "nothing at all", "an apple",      "the letters"};
  std::string text;
  uint64_t index = 0;
  const auto pick = [&](const auto& words) {
    return words[Philox::Words(seed, RandomPurpose::kTest, 0, index++)[0] % std::size(words)];
  };
  for (int i = 0; i < documents; ++i) {
    absl::StrAppend(&text, "{\"text\": \"");
    for (int k = 0; k < 6; ++k) {
      absl::StrAppend(&text, pick(kSubjects), " ", pick(kVerbs), " ", pick(kObjects), k % 3 == 2 ? ".\\n" : ". ");
    }
    absl::StrAppend(&text, "\"}\n");
  }
  return text;
}

TinyProject::TinyProject() {
  WriteText(folder_ / "corpus.jsonl", MakeCorpus(300, 1));
  const std::string corpus = folder_ / "corpus.jsonl", model = folder_ / "tokenizer.model";
  const ProgramResult trained = RunIsthmus(absl::StrCat("tokenizer train --out ", model, " --vocabulary 300 ", corpus));
  const ProgramResult encoded = RunIsthmus(absl::StrCat("tokenizer encode --tokenizer ", model, " --out ",
                                                        folder_ / "tokens", " --validation-fraction 0.1 ", corpus));
  if (trained.exit_status != 0 || encoded.exit_status != 0) {
    std::fprintf(stderr, "%s%s", trained.out.c_str(), encoded.out.c_str());
    std::abort();
  }
}

std::string TinyProject::WriteConfig(const std::string& name, const std::string& more) const {
  std::string path = folder_ / (name + ".textproto");
  WriteText(path, absl::StrCat("folder: \"", folder_ / name, "\"\n",
                               "model { width: 32 layers: 2 heads: 4 feed_forward: 64 }\n", "data { train: \"",
                               folder_ / "tokens/train", "\" validation: \"", folder_ / "tokens/validation",
                               "\" tokenizer: \"", folder_ / "tokenizer.model", "\" sequence_length: 32 }\n",
                               "batch { sequences: 8 }\n",
                               "optimizer { learning_rate: 1e-2 }\n"
                               "device: CPU\n"
                               "schedule { steps: 20 warmup_steps: 2 }\n"
                               "telemetry { interval: 5 validation_interval: 10 validation_batches: 2 }\n",
                               more));
  return path;
}

}  // namespace isthmus::testing
