// Writes token shards (format: runtime/data/FORMAT.md).
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_WRITER_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_WRITER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/token_shard.h"
#include "runtime/durable_file.h"

struct XXH3_state_s;

namespace isthmus {

class TokenShardWriter {
 public:
  // The file appears at Finish. Tokens take two bytes where the vocabulary allows, else four.
  static absl::StatusOr<std::unique_ptr<TokenShardWriter>> Create(const std::string& path, int64_t vocabulary,
                                                                  uint64_t tokenizer_fingerprint);
  ~TokenShardWriter();

  // Adds tokens to the current document, which may be larger than memory; the first call begins one. Errors:
  // InvalidArgument for tokens outside of [0, vocabulary); by errno.
  absl::Status AddTokens(absl::Span<const int32_t> tokens);
  // Call this after the document's end-of-text token. Errors: InvalidArgument for a document without tokens.
  absl::Status EndDocument();
  // Adds a whole document.
  absl::Status AddDocument(absl::Span<const int32_t> tokens);
  absl::Status Finish();

  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }
  int64_t documents() const { return static_cast<int64_t>(starts_.size()); }
  const std::string& path() const { return file_->path(); }

 private:
  TokenShardWriter(std::unique_ptr<DurableFile> file, int64_t vocabulary, uint64_t tokenizer_fingerprint);
  // Appends to file and checksum.
  absl::Status AppendPayload(const void* data, int64_t bytes);

  std::unique_ptr<DurableFile> file_;
  TokenShardHeader header_;
  std::vector<uint64_t> starts_;
  std::vector<uint64_t> counts_;
  bool in_document_ = false;
  std::string buffer_;  // added tokens
  std::unique_ptr<XXH3_state_s, void (*)(XXH3_state_s*)> checksum_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_WRITER_H_
