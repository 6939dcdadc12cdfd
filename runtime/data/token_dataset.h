// Samples of a fixed length over token shards.
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_DATASET_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_DATASET_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/sample_source.h"
#include "runtime/data/token_shard.h"
#include "runtime/stop_signals.h"

namespace isthmus {

// Returns shards as they are, and folders replaced by their *.ids files in order of name. Errors: NotFound for a folder
// without any.
absl::StatusOr<std::vector<std::string>> FindTokenShards(absl::Span<const std::string> paths);

// Number of samples in a shard of `tokens`; a sample has `sequence_length` tokens and the one after each.
int64_t SamplesOf(int64_t tokens, int64_t sequence_length);

// A sample is a run of T tokens within one shard and the token after it. Sample s of a shard begins at token s·T.
class TokenDataset final : public SampleSource {
 public:
  // `paths` are shards, or folders whose *.ids files are taken in order of name. All must have the same vocabulary and
  // tokenizer. A shard of fewer than T + 1 tokens gives no sample. Errors: NotFound, DataLoss (see TokenShard),
  // InvalidArgument when shards disagree or none gives a sample.
  static absl::StatusOr<std::shared_ptr<const TokenDataset>> Open(absl::Span<const std::string> paths,
                                                                  int64_t sequence_length);

  int64_t samples() const override { return samples_; }
  int64_t sequence_length() const override { return sequence_length_; }
  int64_t tokens() const;
  int64_t vocabulary() const override { return shards_.front()->vocabulary(); }
  uint64_t tokenizer_fingerprint() const override { return shards_.front()->tokenizer_fingerprint(); }
  const std::vector<std::shared_ptr<const TokenShard>>& shards() const { return shards_; }
  // XXH3-64 of the checksums of the shards' payloads, in order. Other shards are other samples.
  uint64_t fingerprint() const override;
  // Counts of all shards, [vocabulary()].
  const std::vector<uint64_t>& Counts() const override { return counts_; }
  // Number of shards that are too short for a sample.
  int64_t shards_without_samples() const;
  // Reads everything. Errors: those of TokenShard; Cancelled before the next MiB once a signal has come.
  absl::Status VerifyChecksums(const StopSignals& signals) const;

  // Copies the T + 1 tokens of sample `index`.
  absl::Status Read(int64_t index, absl::Span<int32_t> out) const override;

 private:
  explicit TokenDataset(int64_t sequence_length) : sequence_length_(sequence_length) {}

  int64_t sequence_length_;
  int64_t samples_ = 0;
  std::vector<std::shared_ptr<const TokenShard>> shards_;
  std::vector<int64_t> first_sample_;  // of each shard
  std::vector<uint64_t> counts_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_DATASET_H_
