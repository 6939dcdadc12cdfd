#include "checkpoint/verify.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/stored_clusters.h"
#include "checkpoint/stored_token_gaps.h"
#include "checkpoint/tensor_reader.h"

namespace isthmus {
namespace {

constexpr size_t kMostProblems = 20;

class Verification {
 public:
  Verification(const std::string& folder, const proto::CheckpointManifest& manifest, VerifiedCheckpoint& result)
      : folder_(folder), manifest_(manifest), reader_(folder, manifest), result_(result) {}

  void Run() {
    for (const auto& file : manifest_.files()) {
      if (!file.has_checksum()) continue;
      const absl::Status status = reader_.CheckWholeFile(file);
      Note(status);
      covered_[file.name()].push_back({0, file.bytes()});
      if (status.ok()) result_.bytes += file.bytes();
    }
    for (const auto& tensor : manifest_.tensors()) {
      for (const auto& slice : tensor.slices()) CheckSlice(tensor, slice);
    }
    for (const auto& file : manifest_.files()) CheckCovered(file);
    for (const auto& file : manifest_.files()) CheckTokenizer(file);
    // Clusters that are stored as they were saved may be another model's all the same.
    if (result_.problems.empty()) Note(LoadClusters(folder_, manifest_).status());
    if (result_.problems.empty()) Note(LoadTokenGaps(folder_, manifest_).status());
  }

 private:
  void Note(const absl::Status& status) {
    if (status.ok() || result_.problems.size() >= kMostProblems) return;
    const std::string problem(status.message());
    // Each slice of a file that is missing or of the wrong size finds the same problem.
    if (!result_.problems.empty() && result_.problems.back() == problem) return;
    result_.problems.push_back(problem);
  }

  void CheckSlice(const proto::TensorEntry& tensor, const proto::TensorSlice& slice) {
    int64_t bytes = 0;
    for (int index = 0; index < slice.chunk_checksums_size(); ++index) {
      const auto chunk = reader_.ReadChunk(tensor, slice, index);
      Note(chunk.status());
      if (!chunk.ok()) continue;
      bytes += chunk->bytes();
    }
    result_.bytes += bytes;
    covered_[slice.file()].push_back({slice.offset(), slice.offset() + bytes});
  }

  void CheckCovered(const proto::FileEntry& file) {
    if (!result_.problems.empty()) return;  // what could not be read covers nothing
    auto& ranges = covered_[file.name()];
    std::sort(ranges.begin(), ranges.end());
    int64_t end = 0;
    for (const auto& [begin, next] : ranges) {
      if (begin > end) break;
      end = std::max(end, next);
    }
    if (end == file.bytes()) return;
    Note(absl::DataLossError(absl::StrCat(folder_, "/", file.name(), ": no checksum covers the byte at ", end)));
  }

  // A tokenizer's fingerprint is its file's checksum: a tokenizer stored as it was saved may be the wrong one all the
  // same.
  void CheckTokenizer(const proto::FileEntry& file) {
    if (file.name() != kTokenizerFile || !manifest_.has_tokenizer_fingerprint()) return;
    if (file.checksum() == manifest_.tokenizer_fingerprint()) return;
    Note(absl::DataLossError(absl::StrFormat(
        "%s/%s: fingerprint %016x, but the run's token shards were made with a tokenizer of fingerprint %016x; put "
        "that one in its place to use the weights",
        folder_, file.name(), file.checksum(), manifest_.tokenizer_fingerprint())));
  }

  const std::string& folder_;
  const proto::CheckpointManifest& manifest_;
  TensorReader reader_;
  VerifiedCheckpoint& result_;
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> covered_;  // bytes of each file
};

}  // namespace

VerifiedCheckpoint VerifyCheckpoint(const std::string& folder) {
  VerifiedCheckpoint result;
  const auto manifest = ReadManifest(folder);
  if (!manifest.ok()) {
    result.problems.emplace_back(manifest.status().message());
    return result;
  }
  result.step = manifest->step();
  Verification(folder, *manifest, result).Run();
  return result;
}

}  // namespace isthmus
