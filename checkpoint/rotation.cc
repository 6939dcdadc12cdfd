#include "checkpoint/rotation.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/string_view.h>
#include <absl/strings/strip.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "runtime/durable_file.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kTemporary[] = ".tmp", kLatestTemporary[] = "latest.tmp", kSetAside[] = ".set-aside";

std::string Parent(const std::string& run_folder) { return run_folder + "/checkpoints"; }

// Returns the kind of `path` itself; a link is not followed.
std::optional<mode_t> KindOf(const std::string& path) {
  struct stat state {};
  if (lstat(path.c_str(), &state) != 0) return std::nullopt;
  return state.st_mode & S_IFMT;
}

// Collects errors of work that goes on after each, and reports the first one.
class Errors {
 public:
  void Add(const absl::Status& status) {
    if (!status.ok() && count_++ == 0) first_ = status;
  }
  absl::Status status() const {
    if (count_ < 2) return first_;
    return absl::Status(first_.code(), absl::StrCat(first_.message(), "; and ", count_ - 1, " more"));
  }

 private:
  absl::Status first_;
  int count_ = 0;
};

// Removes file by file, so that there is a fault point between any two. A missing folder is fine. A link is removed,
// but nothing that it leads to.
absl::Status RemoveFolder(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  if (KindOf(folder) == S_IFDIR) {
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      paths.push_back(entry->path());
    }
  }
  paths.emplace_back(folder);
  for (const auto& path : paths) {
    FaultPoint("checkpoint.remove");
    std::filesystem::remove_all(path, error);
    if (error) return FileError(path.string(), "can't remove", error.value());
  }
  return absl::OkStatus();
}

// Returns `name` + `ending` if nothing has that name, else the first free of name-2, name-3, … + `ending`.
std::string FreeName(const std::string& name, const std::string& ending) {
  std::string free = name + ending;
  for (int count = 2; KindOf(free).has_value(); ++count) free = absl::StrCat(name, "-", count, ending);
  return free;
}

// The checkpoint is renamed first: a killed removal must not leave half a checkpoint under its name. A leftover that
// can't be removed keeps its own name.
absl::Status RemoveCheckpoint(const std::string& folder) {
  RemoveFolder(folder + kTemporary).IgnoreError();
  const std::string doomed = FreeName(folder, kTemporary);
  FaultPoint("checkpoint.rotate");
  if (std::rename(folder.c_str(), doomed.c_str()) != 0) return FileError(folder, "can't rename", errno);
  return RemoveFolder(doomed);
}

bool IsNumber(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// Returns true for step-00000010.tmp, step-00000010-2.tmp, and latest.PROCESS.tmp, a pointer that was being written.
// Other names are not ours.
bool IsLeftover(absl::string_view name) {
  if (!absl::ConsumeSuffix(&name, kTemporary)) return false;
  if (absl::ConsumePrefix(&name, absl::StrCat(kLatest, "."))) return IsNumber(name);
  if (!absl::ConsumePrefix(&name, "step-")) return false;
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits('-', 1));
  return IsNumber(parts.first) && (parts.first.size() == name.size() || IsNumber(parts.second));
}

// Returns true for step-00000010.set-aside and step-00000010.set-aside-2.
bool IsSetAside(absl::string_view name) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits(kSetAside, 1));
  if (parts.first.size() == name.size() || !StepOfFolder(std::string(parts.first)).has_value()) return false;
  absl::string_view count = parts.second;
  return count.empty() || (absl::ConsumePrefix(&count, "-") && IsNumber(count));
}

// Renames within the file system, so that nothing is copied. Returns the new name.
absl::StatusOr<std::string> MoveAside(const std::string& path) {
  std::string aside = FreeName(path + kSetAside, "");
  FaultPoint("checkpoint.set_aside");
  if (std::rename(path.c_str(), aside.c_str()) != 0) return FileError(path, "can't rename", errno);
  return aside;
}

// A folder can have this name if somebody copied a run and followed its links. It may be the only copy of a checkpoint,
// so it is moved, not removed.
absl::StatusOr<std::string> ClearLatest(const std::string& run_folder) {
  std::string said;
  for (const std::string& path : {Parent(run_folder) + "/" + kLatest, Parent(run_folder) + "/" + kLatestTemporary}) {
    if (KindOf(path) != S_IFDIR) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const std::string aside, MoveAside(path));
    absl::StrAppend(&said, said.empty() ? "" : "; ", path, " is a folder, not a link: it is ", aside, " now");
  }
  return said;
}

}  // namespace

absl::StatusOr<std::string> PointToLatest(const std::string& run_folder, int64_t step) {
  const std::string name = std::filesystem::path(CheckpointFolder(run_folder, step)).filename().string();
  const std::string link = Parent(run_folder) + "/" + kLatest, temporary = Parent(run_folder) + "/" + kLatestTemporary;
  FaultPoint("checkpoint.latest");
  ISTHMUS_ASSIGN_OR_RETURN(std::string said, ClearLatest(run_folder));
  unlink(temporary.c_str());
  FaultPoint("checkpoint.latest_link");
  if (symlink(name.c_str(), temporary.c_str()) != 0) {
    const int error = errno;
    const absl::Status no_link = FileError(link, "can't make the link", error);
    // Other errors, as of a full disk, are no reason to remove a link that is there.
    if (error != EPERM && error != EOPNOTSUPP && error != ENOSYS) return no_link;
    if (KindOf(link) == S_IFLNK) unlink(link.c_str());
    const absl::Status written = WriteDurably(link, name + "\n");
    if (written.ok()) return said;
    return absl::Status(no_link.code(), absl::StrCat(no_link.message(), ", nor a file: ", written.message()));
  }
  FaultPoint("checkpoint.latest_rename");
  if (std::rename(temporary.c_str(), link.c_str()) != 0) return FileError(link, "can't replace the link", errno);
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(Parent(run_folder)));
  return said;
}

absl::Status RemoveLeftovers(const std::string& run_folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(Parent(run_folder), error), end; !error && entry != end;
       entry.increment(error)) {
    if (IsLeftover(entry->path().filename().string())) found.push_back(entry->path().string());
  }
  Errors errors;
  for (const std::string& path : found) errors.Add(RemoveFolder(path));
  return errors.status();
}

absl::Status RotateCheckpoints(const std::string& run_folder, const proto::CheckpointConfig& config) {
  struct Readable {
    StoredCheckpoint stored;
    proto::CheckpointManifest manifest;
  };
  std::vector<Readable> all;  // newest first
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> there, ListCheckpoints(run_folder));
  for (StoredCheckpoint& stored : there) {
    auto manifest = ReadManifest(stored.folder);
    if (!manifest.ok()) continue;
    manifest->clear_tensors();
    all.push_back({std::move(stored), *std::move(manifest)});
  }
  std::set<int64_t> kept;
  std::optional<int64_t> finite;
  const Readable* best = nullptr;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& [stored, manifest] = all[i];
    if (static_cast<int64_t>(i) < config.keep()) kept.insert(stored.step);
    if (config.keep_every() > 0 && stored.step % config.keep_every() == 0) kept.insert(stored.step);
    if (manifest.finite() && !finite.has_value()) finite = stored.step;
    // Comparisons with NaN are false: a NaN loss is never the best.
    const double loss = manifest.validation_loss();
    if (manifest.has_validation_loss() && (best == nullptr ? loss == loss : loss < best->manifest.validation_loss())) {
      best = &all[i];
    }
  }
  if (finite.has_value()) kept.insert(*finite);
  if (best != nullptr) kept.insert(best->stored.step);
  Errors errors;
  for (const Readable& one : all) {
    if (!kept.contains(one.stored.step)) errors.Add(RemoveCheckpoint(one.stored.folder));
  }
  errors.Add(RemoveLeftovers(run_folder));
  errors.Add(SyncFolder(Parent(run_folder)));
  return errors.status();
}

absl::StatusOr<LaterCheckpoints> SetAsideLater(const std::string& run_folder, int64_t step) {
  LaterCheckpoints moved;
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> later, ListCheckpoints(run_folder));
  const bool there = std::any_of(later.begin(), later.end(), [&](const auto& one) { return one.step == step; });
  std::erase_if(later, [&](const auto& one) { return one.step <= step; });
  if (later.empty()) return moved;
  // `latest` changes first, so that it never leads to a missing folder. Nothing depends on it.
  if (there) {
    const auto pointed = PointToLatest(run_folder, step);
    moved.latest = pointed.ok() ? *pointed : std::string(pointed.status().message());
  } else if (const std::string latest = Parent(run_folder) + "/" + kLatest; KindOf(latest) != S_IFDIR) {
    unlink(latest.c_str());
  }
  for (const StoredCheckpoint& stored : later) {
    ISTHMUS_ASSIGN_OR_RETURN(std::string name, MoveAside(stored.folder));
    moved.names.push_back(std::move(name));
  }
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(Parent(run_folder)));
  return moved;
}

absl::StatusOr<std::vector<std::string>> ListSetAside(const std::string& run_folder) {
  std::vector<std::string> found;
  if (!KindOf(Parent(run_folder)).has_value()) return found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(Parent(run_folder), error), end; !error && entry != end;
       entry.increment(error)) {
    if (IsSetAside(entry->path().filename().string())) found.push_back(entry->path().string());
  }
  if (error) return FileError(Parent(run_folder), "can't list the checkpoints", error.value());
  std::sort(found.begin(), found.end());
  return found;
}

absl::StatusOr<NamedCheckpoint> NameAfterStep(const std::string& run_folder, const std::string& folder, int64_t step) {
  NamedCheckpoint named;
  const std::string name = CheckpointFolder(run_folder, step);
  std::error_code error;
  // `latest` may be a link to it.
  const auto real = std::filesystem::canonical(folder, error);
  if (error) return FileError(folder, "can't look up the checkpoint", error.value());
  if (real.parent_path() != std::filesystem::canonical(Parent(run_folder), error)) return named;
  if (std::filesystem::equivalent(real, name, error)) return named;
  if (KindOf(name).has_value()) {
    ISTHMUS_ASSIGN_OR_RETURN(named.set_aside, MoveAside(name));
  }
  FaultPoint("checkpoint.name");
  if (std::rename(real.c_str(), name.c_str()) != 0) return FileError(real.string(), "can't rename", errno);
  named.renamed = true;
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(Parent(run_folder)));
  PointToLatest(run_folder, step).IgnoreError();
  return named;
}

}  // namespace isthmus
