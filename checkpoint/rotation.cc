#include "checkpoint/rotation.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <vector>

#include "checkpoint/manifest.h"
#include "runtime/durable_file.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

std::string Parent(const std::string& run_folder) { return run_folder + "/checkpoints"; }

// File by file, so that there is a fault point between any two. A folder that does not exist is fine.
absl::Status RemoveFolder(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    paths.push_back(entry->path());
  }
  paths.emplace_back(folder);
  for (const auto& path : paths) {
    FaultPoint("checkpoint.remove");
    std::filesystem::remove_all(path, error);
    if (error) return FileError(path.string(), "can't remove", error.value());
  }
  return absl::OkStatus();
}

// A removal that is killed must not leave half a checkpoint under its name.
absl::Status RemoveCheckpoint(const std::string& folder) {
  const std::string doomed = folder + ".tmp";
  ISTHMUS_RETURN_IF_ERROR(RemoveFolder(doomed));
  FaultPoint("checkpoint.rotate");
  if (std::rename(folder.c_str(), doomed.c_str()) != 0) return FileError(folder, "can't rename", errno);
  return RemoveFolder(doomed);
}

absl::Status RemoveLeftovers(const std::string& run_folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(Parent(run_folder), error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (absl::StartsWith(name, "step-") && absl::EndsWith(name, ".tmp")) found.push_back(entry->path().string());
  }
  for (const std::string& path : found) ISTHMUS_RETURN_IF_ERROR(RemoveFolder(path));
  return absl::OkStatus();
}

}  // namespace

absl::Status PointToLatest(const std::string& run_folder, int64_t step) {
  const std::string name = std::filesystem::path(CheckpointFolder(run_folder, step)).filename().string();
  const std::string link = Parent(run_folder) + "/latest", temporary = link + ".tmp";
  FaultPoint("checkpoint.latest");
  unlink(temporary.c_str());
  FaultPoint("checkpoint.latest_link");
  if (symlink(name.c_str(), temporary.c_str()) != 0) return FileError(link, "can't make the link", errno);
  FaultPoint("checkpoint.latest_rename");
  if (std::rename(temporary.c_str(), link.c_str()) != 0) return FileError(link, "can't replace the link", errno);
  return SyncFolder(Parent(run_folder));
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
    // Comparisons with NaN are false: it is never the best.
    const double loss = manifest.validation_loss();
    if (manifest.has_validation_loss() && (best == nullptr ? loss == loss : loss < best->manifest.validation_loss())) {
      best = &all[i];
    }
  }
  if (finite.has_value()) kept.insert(*finite);
  if (best != nullptr) kept.insert(best->stored.step);
  for (const Readable& one : all) {
    if (!kept.contains(one.stored.step)) ISTHMUS_RETURN_IF_ERROR(RemoveCheckpoint(one.stored.folder));
  }
  ISTHMUS_RETURN_IF_ERROR(RemoveLeftovers(run_folder));
  return SyncFolder(Parent(run_folder));
}

absl::StatusOr<std::vector<std::string>> SetAsideLater(const std::string& run_folder, int64_t step) {
  std::vector<std::string> names;
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> later, ListCheckpoints(run_folder));
  const bool there = std::any_of(later.begin(), later.end(), [&](const auto& one) { return one.step == step; });
  std::erase_if(later, [&](const auto& one) { return one.step <= step; });
  if (later.empty()) return names;
  // First, so that the link never leads to what is gone.
  if (there) {
    ISTHMUS_RETURN_IF_ERROR(PointToLatest(run_folder, step));
  } else {
    unlink((Parent(run_folder) + "/latest").c_str());
  }
  for (const StoredCheckpoint& stored : later) {
    std::string name = stored.folder + ".set-aside";
    std::error_code error;
    for (int count = 2; std::filesystem::exists(name, error); ++count) {
      name = absl::StrCat(stored.folder, ".set-aside-", count);
    }
    FaultPoint("checkpoint.set_aside");
    if (std::rename(stored.folder.c_str(), name.c_str()) != 0) return FileError(stored.folder, "can't rename", errno);
    names.push_back(std::move(name));
  }
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(Parent(run_folder)));
  return names;
}

}  // namespace isthmus
