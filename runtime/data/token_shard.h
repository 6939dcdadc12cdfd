// Token shards: files of token ids, memory-mapped (format: runtime/data/FORMAT.md).
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace isthmus {

struct TokenShardHeader {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  uint64_t tokens;
  uint64_t documents;
  uint64_t vocabulary;
  uint64_t tokenizer_fingerprint;
  uint64_t payload_checksum;
  uint64_t reserved[8];
  uint64_t header_checksum;
};
static_assert(sizeof(TokenShardHeader) == 128);

class TokenShard {
 public:
  // Maps the file and checks its header and size. Errors: by errno; DataLoss "path: …" for truncated, damaged or
  // foreign files.
  static absl::StatusOr<std::shared_ptr<const TokenShard>> Open(const std::string& path);
  ~TokenShard();
  TokenShard(const TokenShard&) = delete;
  TokenShard& operator=(const TokenShard&) = delete;

  const std::string& path() const { return path_; }
  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }
  int64_t documents() const { return static_cast<int64_t>(header_.documents); }
  int64_t vocabulary() const { return static_cast<int64_t>(header_.vocabulary); }
  uint64_t tokenizer_fingerprint() const { return header_.tokenizer_fingerprint; }
  // XXH3-64 of all that follows the header, as that states it.
  uint64_t payload_checksum() const { return header_.payload_checksum; }
  int token_bytes() const { return static_cast<int>(header_.token_bytes); }
  int64_t file_bytes() const { return bytes_; }

  // Copies tokens [begin, begin + out.size()), which must be in the shard. Errors: DataLoss naming the position of a
  // token that is not below the vocabulary.
  absl::Status Read(int64_t begin, absl::Span<int32_t> out) const;
  // Index of the first token of each document.
  absl::Span<const uint64_t> document_starts() const;
  // How often each token occurs, [vocabulary()].
  absl::Span<const uint64_t> counts() const;

  // Checks the payload: checksum, every token, document boundaries, counts.
  absl::Status Verify() const;
  // Checks the checksum of the payload alone: reads the file once at the speed of the disk.
  absl::Status VerifyChecksum() const;

 private:
  TokenShard(std::string path, const TokenShardHeader& header, const char* mapping, int64_t bytes)
      : path_(std::move(path)), header_(header), mapping_(mapping), bytes_(bytes) {}
  const char* Section(int64_t offset) const { return mapping_ + offset; }

  std::string path_;
  TokenShardHeader header_;
  const char* mapping_;
  int64_t bytes_;
};

// Entropy in nats per token of the distribution of tokens that `counts` states: the loss of the best model that knows
// only how frequent tokens are. 0 without tokens.
double UnigramEntropy(absl::Span<const uint64_t> counts);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_
