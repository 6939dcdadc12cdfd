#include "checkpoint/manifest.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kManifestMagic[8] = {'I', 'S', 'T', 'H', 'C', 'K', 'P', '\n'};
constexpr size_t kPrefix = sizeof(kManifestMagic) + sizeof(uint64_t);
constexpr char kManifest[] = "manifest.pb";

// Slices come from disjoint shards: that they lie inside the tensor, do not overlap, and have its size in sum, means
// that they cover it.
absl::Status CheckSlices(const proto::TensorEntry& tensor, const std::string& path) {
  const auto fail = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, ": tensor ", tensor.name(), ": ", what));
  };
  int64_t elements = 0;
  for (int i = 0; i < tensor.slices_size(); ++i) {
    const auto& a = tensor.slices(i);
    if (a.row_begin() < 0 || a.row_begin() > a.row_end() || a.row_end() > tensor.rows() || a.column_begin() < 0 ||
        a.column_begin() > a.column_end() || a.column_end() > tensor.columns() || a.offset() < 0 ||
        a.file().find('/') != std::string::npos) {
      return fail("a slice lies outside of the tensor");
    }
    elements += (a.row_end() - a.row_begin()) * (a.column_end() - a.column_begin());
    for (int j = 0; j < i; ++j) {
      const auto& b = tensor.slices(j);
      if (a.row_begin() < b.row_end() && b.row_begin() < a.row_end() && a.column_begin() < b.column_end() &&
          b.column_begin() < a.column_end()) {
        return fail("two slices overlap");
      }
    }
  }
  if (elements != tensor.rows() * tensor.columns()) return fail("its slices do not cover it");
  return absl::OkStatus();
}

}  // namespace

std::string CheckpointFolder(const std::string& run_folder, int64_t step) {
  return absl::StrFormat("%s/checkpoints/step-%08d", run_folder, step);
}

absl::StatusOr<std::string> FindCheckpoint(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return FileError(path, "can't open the checkpoint", ENOENT);
  if (std::filesystem::exists(path + "/" + kManifest, error)) return path;
  const std::string checkpoints = path + "/checkpoints";
  std::string newest;
  for (std::filesystem::directory_iterator entry(checkpoints, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    // Incomplete ones end in .tmp. Numbers have leading zeros: the last name is the newest.
    if (absl::StartsWith(name, "step-") && !absl::EndsWith(name, ".tmp") && entry->path().string() > newest) {
      newest = entry->path().string();
    }
  }
  if (newest.empty()) {
    return absl::NotFoundError(absl::StrCat(path, ": holds no complete checkpoint; give a folder with ", kManifest,
                                            ", or a run folder with checkpoints/step-…"));
  }
  return newest;
}

absl::Status WriteManifest(const std::string& folder, const proto::CheckpointManifest& manifest) {
  std::string contents(kPrefix, '\0');
  if (!manifest.AppendToString(&contents)) return absl::InternalError("the checkpoint manifest is too large");
  const uint64_t checksum = XXH3_64bits(contents.data() + kPrefix, contents.size() - kPrefix);
  std::memcpy(contents.data(), kManifestMagic, sizeof(kManifestMagic));
  std::memcpy(contents.data() + sizeof(kManifestMagic), &checksum, sizeof(checksum));
  return WriteDurably(folder + "/" + kManifest, contents);
}

absl::StatusOr<proto::CheckpointManifest> ReadManifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifest;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path));
  const auto fail = [&](absl::string_view what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); };
  if (contents.size() < kPrefix || std::memcmp(contents.data(), kManifestMagic, sizeof(kManifestMagic)) != 0) {
    return fail("is not the manifest of a checkpoint, or is truncated");
  }
  uint64_t checksum = 0;
  std::memcpy(&checksum, contents.data() + sizeof(kManifestMagic), sizeof(checksum));
  proto::CheckpointManifest manifest;
  if (XXH3_64bits(contents.data() + kPrefix, contents.size() - kPrefix) != checksum ||
      !manifest.ParseFromArray(contents.data() + kPrefix, static_cast<int>(contents.size() - kPrefix))) {
    return fail("the checksum is wrong: the file is damaged or truncated; use another checkpoint");
  }
  if (manifest.version() != kCheckpointVersion) {
    return fail(absl::StrCat("checkpoint of version ", manifest.version(), "; this program reads version ",
                             kCheckpointVersion));
  }
  for (const auto& tensor : manifest.tensors()) {
    ISTHMUS_RETURN_IF_ERROR(CheckSlices(tensor, path));
  }
  return manifest;
}

}  // namespace isthmus
