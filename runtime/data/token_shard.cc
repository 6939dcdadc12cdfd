#include "runtime/data/token_shard.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "runtime/data/token_shard_layout.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckHeader(const TokenShardHeader& header, int64_t file_bytes, const std::string& path) {
  const auto fail = [&](absl::string_view what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); };
  if (std::memcmp(header.magic, kTokenShardMagic, sizeof(kTokenShardMagic)) != 0) {
    return fail("is not a token shard; make shards with `isthmus tokenizer encode`");
  }
  if (header.version != kTokenShardVersion) {
    return fail(absl::StrCat("token shard of version ", header.version, "; this program reads version ",
                             kTokenShardVersion, ": encode the text again"));
  }
  if (XXH3_64bits(&header, offsetof(TokenShardHeader, header_checksum)) != header.header_checksum) {
    return fail("the header's checksum is wrong: the file is damaged; copy or encode it again");
  }
  constexpr uint64_t kMost = uint64_t{1} << 56;
  if ((header.token_bytes != 2 && header.token_bytes != 4) || header.tokens > kMost ||
      header.documents > header.tokens) {
    return fail("the header states impossible sizes; encode the text again");
  }
  if (header.vocabulary < 1 || header.vocabulary > kMostVocabulary) {
    return fail(absl::StrCat("the header states a vocabulary of ", header.vocabulary, "; accepts 1 to ",
                             kMostVocabulary, ": encode the text again"));
  }
  const int64_t expected = TokenShardLayout(header).end;
  if (file_bytes != expected) {
    return fail(absl::StrCat("the file has ", file_bytes, " bytes, its header says ", expected, ": ",
                             file_bytes < expected ? "it is truncated" : "something was added",
                             "; copy or encode it again"));
  }
  return absl::OkStatus();
}

constexpr int64_t kBlockBytes = 1 << 20;

// Closes a file that was opened for one read only.
class OpenedFile {
 public:
  OpenedFile(int descriptor, bool owned) : descriptor_(descriptor), owned_(owned) {}
  ~OpenedFile() {
    if (owned_ && descriptor_ >= 0) close(descriptor_);
  }
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
  bool owned_;
};

// It never waits, as opening a pipe that nobody writes to would.
int OpenToRead(const std::string& path) { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

}  // namespace

absl::StatusOr<std::shared_ptr<const TokenShard>> TokenShard::Open(const std::string& path, Files files) {
  const int descriptor = OpenToRead(path);
  if (descriptor < 0) return FileError(path, "can't open the token shard", errno);
  std::shared_ptr<TokenShard> shard(new TokenShard(path, descriptor));
  ISTHMUS_RETURN_IF_ERROR(shard->ReadHeader());
  if (files == Files::kOpenedForEachRead) close(std::exchange(shard->descriptor_, -1));
  return shard;
}

TokenShard::~TokenShard() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status TokenShard::ReadHeader() {
  struct stat information;
  if (fstat(descriptor_, &information) != 0) return FileError(path_, "can't open the token shard", errno);
  if (S_ISDIR(information.st_mode)) return FileError(path_, "can't open the token shard", EISDIR);
  if (!S_ISREG(information.st_mode)) {
    return absl::DataLossError(absl::StrCat(path_, ": is a pipe or a device, not a token shard's file"));
  }
  bytes_ = information.st_size;
  file_number_ = information.st_ino;
  if (bytes_ < static_cast<int64_t>(sizeof(header_))) {
    return absl::DataLossError(absl::StrCat(path_, ": has ", bytes_,
                                            " bytes, fewer than a token shard's "
                                            "header: it is truncated or not a token shard"));
  }
  ISTHMUS_RETURN_IF_ERROR(ReadBytes(0, &header_, sizeof(header_)));
  return CheckHeader(header_, bytes_, path_);
}

absl::Status TokenShard::ReadBytes(int64_t offset, void* to, int64_t bytes) const {
  const OpenedFile file(descriptor_ >= 0 ? descriptor_ : OpenToRead(path_), descriptor_ < 0);
  if (file.descriptor() < 0) return FileError(path_, "can't open the token shard again", errno);
  if (descriptor_ < 0) {
    struct stat information;
    if (fstat(file.descriptor(), &information) != 0) return FileError(path_, "can't read", errno);
    if (information.st_ino != file_number_) {
      return absl::DataLossError(absl::StrCat(path_, ": is another file than when it was opened; start again"));
    }
  }
  char* next = static_cast<char*>(to);
  for (const int64_t end = offset + bytes; offset < end;) {
    const ssize_t got = pread(file.descriptor(), next, static_cast<size_t>(end - offset), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, "can't read", errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, " and had ", bytes_,
                                              " bytes when it was opened: it was cut; copy or encode it again"));
    }
    next += got;
    offset += got;
  }
  return absl::OkStatus();
}

absl::Status TokenShard::Read(int64_t begin, absl::Span<int32_t> out) const {
  const auto bytes = static_cast<int64_t>(out.size() * header_.token_bytes);
  const int64_t offset = TokenShardLayout(header_).tokens + begin * token_bytes();
  // Narrow tokens are read into the second half of `out`. Widening from the front never overtakes them.
  char* from = reinterpret_cast<char*>(out.data() + out.size()) - bytes;
  ISTHMUS_RETURN_IF_ERROR(ReadBytes(offset, from, bytes));
  const auto widen = [&](auto token) {
    int64_t bad = -1;
    for (size_t i = 0; i < out.size(); ++i) {
      std::memcpy(&token, from + i * sizeof(token), sizeof(token));
      out[i] = static_cast<int32_t>(token);
      if (token >= header_.vocabulary && bad < 0) bad = static_cast<int64_t>(i);
    }
    return bad;
  };
  const int64_t bad = header_.token_bytes == 2 ? widen(uint16_t{}) : widen(uint32_t{});
  if (bad < 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path_, ": token ", begin + bad, " is ",
                                          static_cast<uint32_t>(out[static_cast<size_t>(bad)]),
                                          ", not below the vocabulary of ", header_.vocabulary,
                                          "; check the shard with `isthmus data inspect` and encode it again"));
}

absl::Status TokenShard::ReadDocumentStarts(int64_t begin, absl::Span<uint64_t> out) const {
  const int64_t offset = TokenShardLayout(header_).documents + begin * 8;
  ISTHMUS_RETURN_IF_ERROR(ReadBytes(offset, out.data(), static_cast<int64_t>(out.size() * 8)));
  for (size_t i = 0; i < out.size(); ++i) {
    const bool first = begin == 0 && i == 0;
    if (first ? out[i] != 0 : (i > 0 && out[i] <= out[i - 1]) || out[i] >= header_.tokens) {
      return absl::DataLossError(absl::StrCat(path_, ": the document boundaries do not ascend; encode the text again"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> TokenShard::ReadCounts() const {
  std::vector<uint64_t> counts(header_.vocabulary);
  ISTHMUS_RETURN_IF_ERROR(
      ReadBytes(TokenShardLayout(header_).counts, counts.data(), static_cast<int64_t>(counts.size() * 8)));
  uint64_t left = header_.tokens;
  bool fits = true;
  for (const uint64_t count : counts) {
    fits = fits && count <= left;
    left -= count;
  }
  if (!fits || left != 0) {
    return absl::DataLossError(absl::StrCat(path_, ": the counts of tokens do not add up to its ", header_.tokens,
                                            " tokens; encode the text again"));
  }
  return counts;
}

absl::Status TokenShard::VerifyChecksum(const std::function<absl::Status()>& before_block) const {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::string block(static_cast<size_t>(kBlockBytes), '\0');
  for (int64_t begin = sizeof(TokenShardHeader); begin < bytes_; begin += kBlockBytes) {
    if (before_block) ISTHMUS_RETURN_IF_ERROR(before_block());
    const int64_t count = std::min(kBlockBytes, bytes_ - begin);
    ISTHMUS_RETURN_IF_ERROR(ReadBytes(begin, block.data(), count));
    XXH3_64bits_update(state.get(), block.data(), static_cast<size_t>(count));
  }
  if (XXH3_64bits_digest(state.get()) != header_.payload_checksum) {
    return absl::DataLossError(
        absl::StrCat(path_, ": the payload's checksum is wrong: the file is damaged; copy or encode it again"));
  }
  return absl::OkStatus();
}

absl::Status TokenShard::Verify() const {
  ISTHMUS_RETURN_IF_ERROR(VerifyChecksum());
  std::vector<uint64_t> found(header_.vocabulary, 0);
  std::vector<int32_t> block(1 << 16);
  const auto block_size = static_cast<int64_t>(block.size());
  for (int64_t begin = 0; begin < tokens(); begin += block_size) {
    const auto count = static_cast<size_t>(std::min(block_size, tokens() - begin));
    ISTHMUS_RETURN_IF_ERROR(Read(begin, absl::MakeSpan(block.data(), count)));
    for (size_t i = 0; i < count; ++i) ++found[static_cast<size_t>(block[i])];
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<uint64_t> counts, ReadCounts());
  if (found != counts) {
    return absl::DataLossError(absl::StrCat(path_, ": the counts of tokens are wrong; encode the text again"));
  }
  // Neighbouring blocks share a document, so that the boundary between them is checked as well.
  std::vector<uint64_t> starts(1 << 16);
  for (int64_t begin = 0; begin < documents(); begin += static_cast<int64_t>(starts.size()) - 1) {
    const auto count = static_cast<size_t>(std::min(static_cast<int64_t>(starts.size()), documents() - begin));
    ISTHMUS_RETURN_IF_ERROR(ReadDocumentStarts(begin, absl::MakeSpan(starts.data(), count)));
  }
  return absl::OkStatus();
}

double UnigramEntropy(absl::Span<const uint64_t> counts) {
  double total = 0, sum = 0;
  for (const uint64_t count : counts) {
    const auto n = static_cast<double>(count);
    total += n;
    if (count > 0) sum += n * std::log(n);
  }
  return total > 0 ? std::log(total) - sum / total : 0;
}

}  // namespace isthmus
