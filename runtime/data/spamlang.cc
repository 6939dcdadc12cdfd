#include "runtime/data/spamlang.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "runtime/philox.h"

namespace isthmus {
namespace {

// Heads that begin with the shares of tokens add 1 to each count. With this many the tokens that never occur keep
// next to nothing.
constexpr uint64_t kCountOfEach = uint64_t{1} << 20;

// Returns a uniform number in [0, count), of 32 bits at most: the upper word of a product with 64 random bits. No number
// is likelier than another by more than count / 2^64.
uint32_t DrawBelow(uint64_t count, int64_t index) {
  const auto words = Philox::Words(0, RandomPurpose::kSpamLang, 0, static_cast<uint64_t>(index));
  return static_cast<uint32_t>((words[1] * count + (words[0] * count >> 32)) >> 32);
}

}  // namespace

SpamLang::SpamLang(const SpamLangShape& shape, Use use)
    : shape_(shape), use_(use), counts_(static_cast<size_t>(shape.vocabulary), 0) {
  std::fill_n(counts_.begin(), shape.symbols, kCountOfEach);
}

int32_t SpamLang::Symbol(int64_t index) const {
  if (use_ == Use::kValidation) return static_cast<int32_t>(index);
  return static_cast<int32_t>(DrawBelow(static_cast<uint64_t>(shape_.symbols), index));
}

uint64_t SpamLang::fingerprint() const {
  // The first number tells it from shards, whatever their checksums are.
  const std::array<uint64_t, 3> facts = {0x5370616D4C616E67, static_cast<uint64_t>(shape_.symbols),
                                         use_ == Use::kTraining ? 0u : 1u};
  return XXH3_64bits(facts.data(), sizeof(facts));
}

absl::Status SpamLang::Read(int64_t index, absl::Span<int32_t> out) const {
  std::fill(out.begin(), out.end(), Symbol(index));
  return absl::OkStatus();
}

}  // namespace isthmus
