#include "launch/commands/result_path.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <sys/stat.h>

#include <filesystem>
#include <iterator>
#include <system_error>

#include "runtime/durable_file.h"
#include "runtime/output_target.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status RefuseResult(absl::string_view option, const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", path, " is ", what, "; name another"));
}

// Returns true if `file` is the regular file that `result` describes, under whatever name.
bool IsFile(const std::string& file, const struct stat& result) {
  struct stat found {};
  return stat(file.c_str(), &found) == 0 && found.st_dev == result.st_dev && found.st_ino == result.st_ino;
}

bool Exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool IsRunFolder(const std::filesystem::path& folder) {
  return Exists(folder / "config.textproto") && (Exists(folder / "metrics.jsonl") || Exists(folder / "log/lock"));
}

bool IsCheckpoint(const std::filesystem::path& folder) { return Exists(folder / "manifest.pb"); }

// Returns true if the program writes `inside`, a path relative to a run folder.
bool RunWrites(const std::filesystem::path& inside) {
  if (inside.empty()) return false;
  const std::string first = inside.begin()->string();
  if (first == "checkpoints" || first == "log") return true;
  if (std::distance(inside.begin(), inside.end()) > 1) {
    return absl::StartsWith(first, "head-step-") && inside.extension() == ".npy";
  }
  for (const char* beginning : {"metrics.jsonl", "metrics.prom", "config.textproto", "events.out.", "matmul-algo"}) {
    if (absl::StartsWith(first, beginning)) return true;
  }
  return false;
}

// Returns the path from the root, with links followed as far as it exists.
std::filesystem::path RealPath(const std::string& path, std::error_code& error) {
  const auto absolute = std::filesystem::absolute(path, error);
  return error ? absolute : std::filesystem::weakly_canonical(absolute, error);
}

// Returns the part of `path` below `folder`; empty if it is not below.
std::filesystem::path Below(const std::filesystem::path& path, const std::filesystem::path& folder) {
  std::filesystem::path inside = path.lexically_relative(folder);
  if (inside.empty() || *inside.begin() == ".." || *inside.begin() == ".") return {};
  return inside;
}

// Refuses a result in place of a run's or a checkpoint's own file, by the name that links lead to.
absl::Status CheckPlace(absl::string_view option, const std::string& path, const CommandInputs& inputs) {
  ISTHMUS_ASSIGN_OR_RETURN(const OutputTarget target, FindOutputTarget(path));
  std::error_code error;
  const auto real = RealPath(target.path, error);
  if (error) return absl::OkStatus();
  for (auto folder = real.parent_path();; folder = folder.parent_path()) {
    if (IsCheckpoint(folder)) return RefuseResult(option, path, absl::StrCat("in the checkpoint ", folder.string()));
    if (IsRunFolder(folder) && RunWrites(Below(real, folder))) {
      return RefuseResult(option, path, absl::StrCat("a file that the run ", folder.string(), " keeps"));
    }
    if (folder == folder.parent_path()) break;
  }
  // This also covers a folder that has lost its configuration.
  for (const std::string& named : inputs.folders) {
    const auto folder = RealPath(named, error);
    if (error || !RunWrites(Below(real, folder))) continue;
    return RefuseResult(option, path, absl::StrCat("a file that the run ", named, " keeps"));
  }
  return absl::OkStatus();
}

// Refuses a result in place of a file in a folder of `inputs` that has other names, too.
absl::Status CheckHardLinks(absl::string_view option, const std::string& path, const struct stat& result,
                            const CommandInputs& inputs) {
  if (result.st_nlink < 2) return absl::OkStatus();
  for (const std::string& folder : inputs.folders) {
    std::error_code error;
    const bool checkpoint = IsCheckpoint(folder);
    for (std::filesystem::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      if (!checkpoint && !RunWrites(Below(entry->path(), folder))) continue;
      if (!IsFile(entry->path().string(), result)) continue;
      return RefuseResult(option, path, absl::StrCat("another name of ", entry->path().string(), ", which is kept"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckResultPath(absl::string_view option, const std::string& path, const CommandInputs& inputs) {
  ISTHMUS_RETURN_IF_ERROR(CheckOutput(path));
  struct stat result {};
  const bool is_file = stat(path.c_str(), &result) == 0 && S_ISREG(result.st_mode);
  for (const std::string& file : inputs.files) {
    if (!is_file || !IsFile(file, result)) continue;
    return RefuseResult(option, path, absl::StrCat("a file that is read (", file, ")"));
  }
  // A pipe or a device holds nothing that could be lost.
  if (!is_file && Exists(path)) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(CheckPlace(option, path, inputs));
  return is_file ? CheckHardLinks(option, path, result, inputs) : absl::OkStatus();
}

}  // namespace isthmus
