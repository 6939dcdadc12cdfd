#include "runtime/data/token_dataset.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <sys/resource.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Number of shards of one data set that stay open. Training and validation may have one set each. They leave half of
// the files that the process may open, which are usually 1,024.
size_t MostOpenFiles() {
  constexpr rlim_t kMost = 256;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<size_t>(std::min(limit.rlim_cur / 4, kMost));
}

}  // namespace

int64_t SamplesOf(int64_t tokens, int64_t sequence_length) {
  return std::max<int64_t>(tokens - 1, 0) / sequence_length;
}

absl::StatusOr<std::vector<std::string>> FindTokenShards(absl::Span<const std::string> paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
      if (entry->path().extension() == ".ids") found.push_back(entry->path().string());
    }
    if (error) return FileError(path, "can't list the folder", error.value());
    if (found.empty()) {
      return absl::NotFoundError(
          absl::StrCat(path, ": no token shards (.ids) in this folder; make them with `isthmus tokenizer encode`"));
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

absl::StatusOr<std::shared_ptr<const TokenDataset>> TokenDataset::Open(absl::Span<const std::string> paths,
                                                                       int64_t sequence_length) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> files, FindTokenShards(paths));
  if (files.empty()) return absl::InvalidArgumentError("no token shards were named");
  std::shared_ptr<TokenDataset> dataset(new TokenDataset(sequence_length));
  const size_t most_open = MostOpenFiles();
  int64_t longest = 0;
  for (const std::string& file : files) {
    const bool stays_open = dataset->shards_.size() < most_open;
    ISTHMUS_ASSIGN_OR_RETURN(auto shard, TokenShard::Open(file, stays_open ? TokenShard::Files::kStayOpen
                                                                           : TokenShard::Files::kOpenedForEachRead));
    if (!dataset->shards_.empty()) {
      const TokenShard& first = *dataset->shards_.front();
      if (shard->vocabulary() != first.vocabulary() ||
          shard->tokenizer_fingerprint() != first.tokenizer_fingerprint()) {
        return absl::InvalidArgumentError(
            absl::StrCat(file, " and ", first.path(), " were made with different tokenizers (vocabularies of ",
                         shard->vocabulary(), " and ", first.vocabulary(), "); encode both with the same"));
      }
    }
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<uint64_t> counts, shard->ReadCounts());
    dataset->counts_.resize(counts.size(), 0);
    for (size_t i = 0; i < counts.size(); ++i) dataset->counts_[i] += counts[i];
    dataset->first_sample_.push_back(dataset->samples_);
    dataset->samples_ += SamplesOf(shard->tokens(), sequence_length);
    longest = std::max(longest, shard->tokens());
    dataset->shards_.push_back(std::move(shard));
  }
  if (dataset->samples_ > 0) return dataset;
  if (longest < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.front(), files.size() > 1 ? ", …" : "",
                     ": the token shards are empty or have a single token; encode more text"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("data.sequence_length: ", sequence_length, "; ", files.front(),
                   files.size() > 1 ? absl::StrCat(" and ", files.size() - 1, " other shards have at most ") : " has ",
                   longest, " tokens, and a sample needs one more than data.sequence_length; accepts 1 to ",
                   longest - 1, ", or encode more text (for validation: with a larger --validation-fraction)"));
}

int64_t TokenDataset::tokens() const {
  int64_t count = 0;
  for (const auto& shard : shards_) count += shard->tokens();
  return count;
}

uint64_t TokenDataset::fingerprint() const {
  std::vector<uint64_t> checksums;
  for (const auto& shard : shards_) checksums.push_back(shard->payload_checksum());
  return XXH3_64bits(checksums.data(), checksums.size() * sizeof(checksums[0]));
}

int64_t TokenDataset::shards_without_samples() const {
  return std::count_if(shards_.begin(), shards_.end(),
                       [this](const auto& shard) { return SamplesOf(shard->tokens(), sequence_length_) == 0; });
}

absl::Status TokenDataset::VerifyChecksums(const StopSignals& signals) const {
  for (const auto& shard : shards_) {
    // Signals are checked because a large shard takes minutes.
    ISTHMUS_RETURN_IF_ERROR(shard->VerifyChecksum([&] {
      const int signal = signals.received();
      if (signal == 0) return absl::OkStatus();
      return absl::CancelledError(
          absl::StrCat("stopped by ", SignalName(signal), " before all of ", shard->path(), " was read"));
    }));
  }
  return absl::OkStatus();
}

absl::Status TokenDataset::Read(int64_t index, absl::Span<int32_t> out) const {
  const auto next = std::upper_bound(first_sample_.begin(), first_sample_.end(), index);
  const auto shard = static_cast<size_t>(next - first_sample_.begin() - 1);
  return shards_[shard]->Read((index - first_sample_[shard]) * sequence_length_, out);
}

}  // namespace isthmus
