#include "checkpoint/manifest.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <system_error>
#include <vector>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kManifestMagic[8] = {'I', 'S', 'T', 'H', 'C', 'K', 'P', '\n'};
constexpr size_t kPrefix = sizeof(kManifestMagic) + sizeof(uint64_t);
constexpr char kManifest[] = "manifest.pb";

// Whether two slices share an element, in n log n: a sweep over the rows, with the columns of the slices that lie on
// the current row in order. Thousands of ranks make thousands of slices.
bool Overlap(const proto::TensorEntry& tensor) {
  std::vector<const proto::TensorSlice*> by_begin, by_end;
  for (const auto& slice : tensor.slices()) by_begin.push_back(&slice);
  by_end = by_begin;
  std::sort(by_begin.begin(), by_begin.end(), [](auto* a, auto* b) { return a->row_begin() < b->row_begin(); });
  std::sort(by_end.begin(), by_end.end(), [](auto* a, auto* b) { return a->row_end() < b->row_end(); });
  std::map<int64_t, int64_t> columns;  // from begin to end
  size_t ended = 0;
  for (const auto* slice : by_begin) {
    for (; by_end[ended]->row_end() <= slice->row_begin(); ++ended) columns.erase(by_end[ended]->column_begin());
    const auto next = columns.lower_bound(slice->column_begin());
    if (next != columns.end() && next->first < slice->column_end()) return true;
    if (next != columns.begin() && std::prev(next)->second > slice->column_begin()) return true;
    columns.emplace(slice->column_begin(), slice->column_end());
  }
  return false;
}

// Slices that lie inside the tensor, do not overlap, and have its size in sum cover it.
absl::Status CheckSlices(const proto::TensorEntry& tensor, const std::string& path) {
  const auto fail = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, ": tensor ", tensor.name(), ": ", what));
  };
  int64_t elements = 0;
  for (const auto& slice : tensor.slices()) {
    const int64_t rows = slice.row_end() - slice.row_begin();
    if (slice.row_begin() < 0 || rows <= 0 || slice.row_end() > tensor.rows() || slice.column_begin() < 0 ||
        slice.column_begin() >= slice.column_end() || slice.column_end() > tensor.columns() || slice.offset() < 0 ||
        slice.file().find('/') != std::string::npos) {
      return fail("a slice lies outside of the tensor");
    }
    if (slice.chunk_rows() < 1 ||
        (rows + slice.chunk_rows() - 1) / slice.chunk_rows() != slice.chunk_checksums_size()) {
      return fail("a slice has another number of checksums than of chunks");
    }
    elements += rows * (slice.column_end() - slice.column_begin());
  }
  if (Overlap(tensor)) return fail("two slices overlap");
  if (elements != tensor.rows() * tensor.columns()) return fail("its slices do not cover it");
  return absl::OkStatus();
}

// Version 1 has one checksum for a slice.
void TakeOneChunkPerSlice(proto::CheckpointManifest& manifest) {
  for (auto& tensor : *manifest.mutable_tensors()) {
    for (auto& slice : *tensor.mutable_slices()) {
      slice.set_chunk_rows(std::max<int64_t>(slice.row_end() - slice.row_begin(), 1));
      slice.add_chunk_checksums(slice.checksum());
    }
  }
}

// Incomplete checkpoints, and those that were put aside, have more behind the number.
bool StepOf(const std::filesystem::path& folder, int64_t& step) {
  const std::string name = folder.filename().string();
  return absl::StartsWith(name, "step-") && absl::SimpleAtoi(name.substr(5), &step);
}

}  // namespace

std::string CheckpointFolder(const std::string& run_folder, int64_t step) {
  return absl::StrFormat("%s/checkpoints/step-%08d", run_folder, step);
}

absl::StatusOr<std::vector<StoredCheckpoint>> ListCheckpoints(const std::string& run_folder) {
  std::vector<StoredCheckpoint> found;
  const std::string folder = run_folder + "/checkpoints";
  // Of the name itself: a link that leads nowhere is not the same as no checkpoints.
  struct stat name {};
  if (lstat(folder.c_str(), &name) != 0 && errno == ENOENT) return found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (int64_t step = 0; StepOf(entry->path(), step)) found.push_back({step, entry->path().string()});
  }
  if (error) {
    return FileError(folder, "can't list the checkpoints (is its disk mounted, and readable?)", error.value());
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

absl::StatusOr<std::string> FindCheckpoint(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return FileError(path, "can't open the checkpoint", error ? error.value() : ENOENT);
  }
  if (std::filesystem::exists(path + "/" + kManifest, error)) return path;
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<StoredCheckpoint> stored, ListCheckpoints(path));
  if (stored.empty()) {
    return absl::NotFoundError(absl::StrCat(path, ": holds no complete checkpoint; give a folder with ", kManifest,
                                            ", or a run folder with checkpoints/step-…"));
  }
  return stored.front().folder;
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
  if (manifest.version() < 1 || manifest.version() > kCheckpointVersion) {
    return fail(absl::StrCat("checkpoint of version ", manifest.version(), "; this program reads versions 1 to ",
                             kCheckpointVersion));
  }
  // Another step's files, all of them, would pass for this one's.
  if (int64_t step = 0; StepOf(folder, step) && step != manifest.step()) {
    return fail(absl::StrCat("is of step ", manifest.step(), ", not of the step that the folder is named after"));
  }
  if (manifest.version() == 1) TakeOneChunkPerSlice(manifest);
  for (const auto& tensor : manifest.tensors()) {
    ISTHMUS_RETURN_IF_ERROR(CheckSlices(tensor, path));
  }
  return manifest;
}

}  // namespace isthmus
