#include "checkpoint/manifest.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/string_view.h>
#include <absl/strings/strip.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/manifest_check.h"
#include "checkpoint/stored_file.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kManifestMagic[8] = {'I', 'S', 'T', 'H', 'C', 'K', 'P', '\n'};
constexpr size_t kPrefix = sizeof(kManifestMagic) + sizeof(uint64_t);
constexpr char kManifest[] = "manifest.pb";
constexpr int64_t kMostPointerBytes = 64;

// Returns false for other names: those of incomplete checkpoints, and of those that were put aside, have more behind
// the number.
bool StepOf(absl::string_view folder, int64_t& step) {
  folder = absl::StripSuffix(folder, "/");
  absl::string_view name = folder.substr(folder.rfind('/') + 1);
  return absl::ConsumePrefix(&name, "step-") && std::all_of(name.begin(), name.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(name, &step);
}

// Makes the error for a pointer to a checkpoint that has been moved or removed.
absl::Status NamesNothing(const std::string& latest, const std::string& name) {
  return absl::NotFoundError(
      absl::StrCat(latest, ": names ", name, ", which is not there; give the run folder or another checkpoint"));
}

// Returns the folder that the small file `latest` names, which lies beside it.
absl::StatusOr<std::string> Pointed(const std::string& latest) {
  ISTHMUS_ASSIGN_OR_RETURN(std::string name, ReadStoredFile(latest, kMostPointerBytes));
  absl::StripAsciiWhitespace(&name);
  if (int64_t step = 0; name.find('/') == std::string::npos && StepOf(name, step)) {
    const auto folder = std::filesystem::path(latest).parent_path() / name;
    std::error_code error;
    if (std::filesystem::status(folder, error).type() == std::filesystem::file_type::not_found) {
      return NamesNothing(latest, name);
    }
    return folder.string();
  }
  return absl::DataLossError(absl::StrCat(latest, ": does not name a checkpoint, step-…"));
}

}  // namespace

std::optional<int64_t> StepOfFolder(const std::string& folder) {
  int64_t step = 0;
  return StepOf(folder, step) ? std::optional<int64_t>(step) : std::nullopt;
}

std::string CheckpointFolder(const std::string& run_folder, int64_t step) {
  return absl::StrFormat("%s/checkpoints/step-%08d", run_folder, step);
}

absl::StatusOr<std::vector<StoredCheckpoint>> ListCheckpoints(const std::string& run_folder) {
  std::vector<StoredCheckpoint> found;
  const std::string folder = run_folder + "/checkpoints";
  // This is about the name itself: a link that leads nowhere is not the same as no checkpoints.
  struct stat name {};
  if (lstat(folder.c_str(), &name) != 0 && errno == ENOENT) return found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (int64_t step = 0; StepOf(entry->path().string(), step)) found.push_back({step, entry->path().string()});
  }
  if (error) {
    return FileError(folder, "can't list the checkpoints (is its disk mounted, and readable?)", error.value());
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

absl::StatusOr<std::string> FindCheckpoint(const std::string& path) {
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  const bool pointer = std::filesystem::path(path).filename() == kLatest;
  if (kind == std::filesystem::file_type::not_found && pointer) {
    if (const auto name = std::filesystem::read_symlink(path, error); !error) return NamesNothing(path, name.string());
  }
  if (kind == std::filesystem::file_type::none || kind == std::filesystem::file_type::not_found) {
    return FileError(path, "can't open the checkpoint",
                     kind == std::filesystem::file_type::none ? error.value() : ENOENT);
  }
  if (kind == std::filesystem::file_type::regular && pointer) return Pointed(path);
  if (kind != std::filesystem::file_type::directory) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a folder; give a checkpoint (a folder with ",
                                                   kManifest, "), a run folder, or checkpoints/", kLatest));
  }
  if (std::filesystem::exists(path + "/" + kManifest, error)) return path;
  if (error) return FileError(path, "can't look into the checkpoint", error.value());
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<StoredCheckpoint> stored, ListCheckpoints(path));
  if (stored.empty()) {
    return absl::NotFoundError(absl::StrCat(path, ": holds no complete checkpoint; give a folder with ", kManifest,
                                            ", or a run folder with checkpoints/step-…"));
  }
  return stored.front().folder;
}

absl::Status WriteManifest(const std::string& folder, const proto::CheckpointManifest& manifest) {
  std::string contents(kPrefix, '\0');
  // A manifest that could not be read again is not written.
  if (static_cast<int64_t>(manifest.ByteSizeLong()) > kMostManifestBytes - static_cast<int64_t>(kPrefix) ||
      !manifest.AppendToString(&contents)) {
    return absl::FailedPreconditionError(absl::StrCat(
        folder, ": the checkpoint's manifest is too large; accepted: at most ", kMostManifestBytes, " bytes"));
  }
  const uint64_t checksum = XXH3_64bits(contents.data() + kPrefix, contents.size() - kPrefix);
  std::memcpy(contents.data(), kManifestMagic, sizeof(kManifestMagic));
  std::memcpy(contents.data() + sizeof(kManifestMagic), &checksum, sizeof(checksum));
  return WriteDurably(folder + "/" + kManifest, contents);
}

absl::StatusOr<proto::CheckpointManifest> ReadManifest(const std::string& folder) {
  ISTHMUS_ASSIGN_OR_RETURN(IdentifiedManifest read, ReadIdentifiedManifest(folder));
  return std::move(read.manifest);
}

absl::StatusOr<IdentifiedManifest> ReadIdentifiedManifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifest;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string contents, ReadStoredFile(path, kMostManifestBytes));
  const auto fail = [&](absl::string_view what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); };
  if (contents.size() < kPrefix || std::memcmp(contents.data(), kManifestMagic, sizeof(kManifestMagic)) != 0) {
    return fail("is not the manifest of a checkpoint, or is truncated");
  }
  IdentifiedManifest read;
  std::memcpy(&read.checksum, contents.data() + sizeof(kManifestMagic), sizeof(read.checksum));
  proto::CheckpointManifest& manifest = read.manifest;
  if (XXH3_64bits(contents.data() + kPrefix, contents.size() - kPrefix) != read.checksum ||
      !manifest.ParseFromArray(contents.data() + kPrefix, static_cast<int>(contents.size() - kPrefix))) {
    return fail("the checksum is wrong: the file is damaged or truncated; use another checkpoint");
  }
  if (manifest.version() > kCheckpointVersion) {
    return absl::UnimplementedError(absl::StrCat(
        path, ": checkpoint of version ", manifest.version(), ", newer than this program, which reads versions 1 to ",
        kCheckpointVersion, "; use the program that wrote it, or a later one"));
  }
  if (manifest.version() < 1) {
    return fail(absl::StrCat("checkpoint of version ", manifest.version(), "; this program reads versions 1 to ",
                             kCheckpointVersion));
  }
  // A complete set of another step's files would pass for this one's.
  if (int64_t step = 0; StepOf(folder, step) && step != manifest.step()) {
    return fail(absl::StrCat("is of step ", manifest.step(), ", not of the step that the folder is named after"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckManifest(manifest, path));
  return read;
}

}  // namespace isthmus
