// Token shards: files of token ids (format: runtime/data/FORMAT.md). Nothing is mapped into memory, so a shortened file
// or a failing disk is an error of the call that reads it.
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
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

// The largest vocabulary of a shard, and of a tokenizer that is trained.
inline constexpr int64_t kMostVocabulary = int64_t{1} << 24;

class TokenShard {
 public:
  enum class Files : uint8_t { kStayOpen, kOpenedForEachRead };

  // Checks header and size. `files` says whether the file stays open; a process can keep only some hundreds open.
  // Errors: by errno; DataLoss "path: …" for truncated, damaged or foreign files, and if `path` is no file.
  static absl::StatusOr<std::shared_ptr<const TokenShard>> Open(const std::string& path,
                                                                Files files = Files::kStayOpen);
  ~TokenShard();
  TokenShard(const TokenShard&) = delete;
  TokenShard& operator=(const TokenShard&) = delete;

  const std::string& path() const { return path_; }
  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }
  int64_t documents() const { return static_cast<int64_t>(header_.documents); }
  int64_t vocabulary() const { return static_cast<int64_t>(header_.vocabulary); }
  uint64_t tokenizer_fingerprint() const { return header_.tokenizer_fingerprint; }
  // XXH3-64 of all that follows the header, as the header states it.
  uint64_t payload_checksum() const { return header_.payload_checksum; }
  int token_bytes() const { return static_cast<int>(header_.token_bytes); }
  int64_t file_bytes() const { return bytes_; }

  // Several threads may call all functions below. Their errors: by errno; DataLoss if the file is shorter than when it
  // was opened, or is another file.

  // Copies tokens [begin, begin + out.size()), which must be in the shard. Errors: DataLoss naming the position of a
  // token that is not below the vocabulary.
  absl::Status Read(int64_t begin, absl::Span<int32_t> out) const;
  // Reads the index of the first token of documents [begin, begin + out.size()), which must be in the shard. Errors:
  // DataLoss if these don't ascend or are not in the shard.
  absl::Status ReadDocumentStarts(int64_t begin, absl::Span<uint64_t> out) const;
  // Reads how often each token occurs, [vocabulary()]. Errors: DataLoss if the counts don't add up to tokens().
  absl::StatusOr<std::vector<uint64_t>> ReadCounts() const;

  // Checks the payload: checksum, every token, document boundaries, counts.
  absl::Status Verify() const;
  // Checks the checksum of the payload alone: reads the file once at the speed of the disk. Calls `before_block` before
  // each MiB, where there is one, and stops at its error.
  absl::Status VerifyChecksum(const std::function<absl::Status()>& before_block = nullptr) const;

 private:
  TokenShard(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  absl::Status ReadHeader();
  // Reads bytes [offset, offset + bytes) of the file.
  absl::Status ReadBytes(int64_t offset, void* to, int64_t bytes) const;

  std::string path_;
  int descriptor_;  // negative: the file is opened for each read
  TokenShardHeader header_ = {};
  int64_t bytes_ = 0;
  uint64_t file_number_ = 0;  // its inode
};

// Returns the entropy in nats per token of the distribution of tokens that `counts` states, or 0 without tokens. It is
// the loss of the best model that knows only how frequent tokens are.
double UnigramEntropy(absl::Span<const uint64_t> counts);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_H_
