#include "runtime/data/token_shard.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

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
  if ((header.token_bytes != 2 && header.token_bytes != 4) || header.tokens > kMost || header.documents > kMost ||
      header.vocabulary > kMost || header.documents > header.tokens) {
    return fail("the header states impossible sizes; encode the text again");
  }
  const int64_t expected = TokenShardLayout(header).end;
  if (file_bytes != expected) {
    return fail(absl::StrCat("the file has ", file_bytes, " bytes, its header says ", expected, ": ",
                             file_bytes < expected ? "it is truncated" : "something was added",
                             "; copy or encode it again"));
  }
  return absl::OkStatus();
}

template <typename T>
const T* TypedAt(const char* bytes) {
  return reinterpret_cast<const T*>(bytes);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TokenShard>> TokenShard::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open the token shard", errno);
  struct stat information;
  TokenShardHeader header;
  absl::Status status;
  void* mapping = MAP_FAILED;
  if (fstat(descriptor, &information) != 0) {
    status = FileError(path, "can't open the token shard", errno);
  } else if (S_ISDIR(information.st_mode)) {
    status = FileError(path, "can't open the token shard", EISDIR);
  } else if (pread(descriptor, &header, sizeof(header), 0) != static_cast<ssize_t>(sizeof(header))) {
    status = absl::DataLossError(absl::StrCat(path, ": has ", information.st_size,
                                              " bytes, fewer than a token shard's "
                                              "header: it is truncated or not a token shard"));
  } else {
    status = CheckHeader(header, information.st_size, path);
  }
  if (status.ok()) {
    mapping = mmap(nullptr, static_cast<size_t>(information.st_size), PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED) status = FileError(path, "can't map the token shard", errno);
  }
  close(descriptor);
  ISTHMUS_RETURN_IF_ERROR(status);
  return std::shared_ptr<const TokenShard>(
      new TokenShard(path, header, static_cast<const char*>(mapping), information.st_size));
}

TokenShard::~TokenShard() { munmap(const_cast<char*>(mapping_), static_cast<size_t>(bytes_)); }

absl::Status TokenShard::Read(int64_t begin, absl::Span<int32_t> out) const {
  const char* tokens = Section(TokenShardLayout(header_).tokens);
  const auto copy = [&](const auto* from) {
    int64_t bad = -1;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<int32_t>(from[i]);
      if (from[i] >= header_.vocabulary && bad < 0) bad = static_cast<int64_t>(i);
    }
    return bad;
  };
  const int64_t bad =
      header_.token_bytes == 2 ? copy(TypedAt<uint16_t>(tokens) + begin) : copy(TypedAt<uint32_t>(tokens) + begin);
  if (bad < 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path_, ": token ", begin + bad, " is ",
                                          static_cast<uint32_t>(out[static_cast<size_t>(bad)]),
                                          ", not below the vocabulary of ", header_.vocabulary,
                                          "; check the shard with `isthmus data inspect` and encode it again"));
}

absl::Span<const uint64_t> TokenShard::document_starts() const {
  return {TypedAt<uint64_t>(Section(TokenShardLayout(header_).documents)), header_.documents};
}

absl::Span<const uint64_t> TokenShard::counts() const {
  return {TypedAt<uint64_t>(Section(TokenShardLayout(header_).counts)), header_.vocabulary};
}

absl::Status TokenShard::VerifyChecksum() const {
  constexpr int64_t kHeader = sizeof(TokenShardHeader);
  if (XXH3_64bits(mapping_ + kHeader, static_cast<size_t>(bytes_ - kHeader)) != header_.payload_checksum) {
    return absl::DataLossError(
        absl::StrCat(path_, ": the payload's checksum is wrong: the file is damaged; copy or encode it again"));
  }
  return absl::OkStatus();
}

absl::Status TokenShard::Verify() const {
  ISTHMUS_RETURN_IF_ERROR(VerifyChecksum());
  std::vector<uint64_t> found(header_.vocabulary, 0);
  std::vector<int32_t> block(1 << 16);
  for (int64_t begin = 0; begin < tokens(); begin += static_cast<int64_t>(block.size())) {
    const auto count = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(block.size()), tokens() - begin));
    ISTHMUS_RETURN_IF_ERROR(Read(begin, absl::MakeSpan(block.data(), count)));
    for (size_t i = 0; i < count; ++i) ++found[static_cast<size_t>(block[i])];
  }
  if (absl::MakeConstSpan(found) != counts()) {
    return absl::DataLossError(absl::StrCat(path_, ": the counts of tokens are wrong; encode the text again"));
  }
  const auto starts = document_starts();
  for (size_t i = 0; i < starts.size(); ++i) {
    if (i == 0 ? starts[i] != 0 : starts[i] <= starts[i - 1] || starts[i] >= header_.tokens) {
      return absl::DataLossError(absl::StrCat(path_, ": the document boundaries do not ascend; encode the text again"));
    }
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
