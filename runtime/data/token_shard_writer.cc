#include "runtime/data/token_shard_writer.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <xxhash.h>

#include <cstddef>
#include <cstring>
#include <limits>
#include <utility>

#include "runtime/data/token_shard_layout.h"
#include "runtime/status.h"

namespace isthmus {

TokenShardWriter::TokenShardWriter(std::unique_ptr<DurableFile> file, int64_t vocabulary, uint64_t fingerprint)
    : file_(std::move(file)),
      header_{},
      counts_(static_cast<size_t>(vocabulary), 0),
      checksum_(XXH3_createState(), [](XXH3_state_s* state) { XXH3_freeState(state); }) {
  std::memcpy(header_.magic, kTokenShardMagic, sizeof(kTokenShardMagic));
  header_.version = kTokenShardVersion;
  header_.token_bytes = vocabulary <= std::numeric_limits<uint16_t>::max() + int64_t{1} ? 2 : 4;
  header_.vocabulary = static_cast<uint64_t>(vocabulary);
  header_.tokenizer_fingerprint = fingerprint;
  XXH3_64bits_reset(checksum_.get());
}

TokenShardWriter::~TokenShardWriter() = default;

absl::StatusOr<std::unique_ptr<TokenShardWriter>> TokenShardWriter::Create(const std::string& path, int64_t vocabulary,
                                                                           uint64_t tokenizer_fingerprint) {
  if (vocabulary < 1 || vocabulary > kMostVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": vocabulary ", vocabulary, "; accepts 1 to ", kMostVocabulary));
  }
  ISTHMUS_ASSIGN_OR_RETURN(auto file, DurableFile::Create(path));
  auto writer = absl::WrapUnique(new TokenShardWriter(std::move(file), vocabulary, tokenizer_fingerprint));
  // This leaves the header's place free; the header is written last.
  ISTHMUS_RETURN_IF_ERROR(writer->file_->Append(&writer->header_, sizeof(TokenShardHeader)));
  return writer;
}

absl::Status TokenShardWriter::AppendPayload(const void* data, int64_t bytes) {
  XXH3_64bits_update(checksum_.get(), data, static_cast<size_t>(bytes));
  return file_->Append(data, bytes);
}

absl::Status TokenShardWriter::AddTokens(absl::Span<const int32_t> tokens) {
  if (tokens.empty()) return absl::OkStatus();
  buffer_.resize(tokens.size() * header_.token_bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t token = tokens[i];
    if (token < 0 || static_cast<uint64_t>(token) >= header_.vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat(path(), ": token ", token, " is not below the vocabulary of ", header_.vocabulary));
    }
    ++counts_[static_cast<size_t>(token)];
    if (header_.token_bytes == 2) {
      const auto narrow = static_cast<uint16_t>(token);
      std::memcpy(buffer_.data() + i * 2, &narrow, 2);
    } else {
      std::memcpy(buffer_.data() + i * 4, &token, 4);
    }
  }
  if (!in_document_) starts_.push_back(header_.tokens);
  in_document_ = true;
  header_.tokens += tokens.size();
  return AppendPayload(buffer_.data(), static_cast<int64_t>(buffer_.size()));
}

absl::Status TokenShardWriter::EndDocument() {
  if (!in_document_) return absl::InvalidArgumentError("a document of a token shard needs at least one token");
  in_document_ = false;
  return absl::OkStatus();
}

absl::Status TokenShardWriter::AddDocument(absl::Span<const int32_t> tokens) {
  ISTHMUS_RETURN_IF_ERROR(AddTokens(tokens));
  return EndDocument();
}

absl::Status TokenShardWriter::Finish() {
  header_.documents = starts_.size();
  const TokenShardLayout layout(header_);
  constexpr char kZeros[8] = {};
  ISTHMUS_RETURN_IF_ERROR(AppendPayload(kZeros, layout.documents - file_->size()));
  ISTHMUS_RETURN_IF_ERROR(AppendPayload(starts_.data(), static_cast<int64_t>(starts_.size() * 8)));
  ISTHMUS_RETURN_IF_ERROR(AppendPayload(counts_.data(), static_cast<int64_t>(counts_.size() * 8)));
  header_.payload_checksum = XXH3_64bits_digest(checksum_.get());
  header_.header_checksum = XXH3_64bits(&header_, offsetof(TokenShardHeader, header_checksum));
  ISTHMUS_RETURN_IF_ERROR(file_->WriteAt(0, &header_, sizeof(header_)));
  return file_->Commit();
}

}  // namespace isthmus
