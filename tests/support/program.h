// Runs the real program as its users do, and folders and corpora for it to work on.
#ifndef ISTHMUS_TESTS_SUPPORT_PROGRAM_H_
#define ISTHMUS_TESTS_SUPPORT_PROGRAM_H_

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus::testing {

// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct ProgramResult {
  int exit_status = -1;  // 128 + signal when a signal ended it, as in a shell
  std::string out;       // standard output and standard error
  // Returns how often `text` occurs in the output.
  int Count(const std::string& text) const;
};

// How long tests wait for something that ends by itself. It is far more than needed, so that a busy machine fails no
// test.
inline constexpr int kPatience = 900;

// Runs a shell command line and waits for it; after `seconds` it is killed and the exit status is 137.
ProgramResult RunShell(const std::string& command, int seconds = kPatience);
// Runs `isthmus arguments` alone, or under mpirun on `ranks` ranks.
ProgramResult RunIsthmus(const std::string& arguments, int ranks = 0, int seconds = kPatience);
// Does the same with faults as tests/faults/fault_point.cc describes them; `log` is the file of passed points, if any.
ProgramResult RunWithFaults(const std::string& faults, const std::string& arguments, int ranks = 0,
                            int seconds = kPatience, const std::string& log = "");

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

// Sentences of a small made-up language, as .jsonl documents; a function of `seed` alone.
std::string MakeCorpus(int documents, uint64_t seed);

// A folder with corpus.jsonl, tokenizer.model, and tokens/{train,validation}/00000.ids, made by the program itself.
class TinyProject {
 public:
  TinyProject();
  const TemporaryFolder& folder() const { return folder_; }
  std::string operator/(const std::string& name) const { return folder_ / name; }
  // Writes `name`.textproto for a run in folder/name with a tiny model; `more` is appended text.
  std::string WriteConfig(const std::string& name, const std::string& more = "") const;

 private:
  TemporaryFolder folder_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_PROGRAM_H_
