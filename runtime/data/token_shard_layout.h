// The layout of a token shard's sections (runtime/data/FORMAT.md).
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_LAYOUT_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_LAYOUT_H_

#include <cstdint>

#include "runtime/data/token_shard.h"

namespace isthmus {

inline constexpr char kTokenShardMagic[8] = {'I', 'S', 'T', 'H', 'I', 'D', 'S', '\n'};
inline constexpr uint32_t kTokenShardVersion = 1;

// Byte offsets in the file. The sizes must be small enough not to overflow (checked by Open).
struct TokenShardLayout {
  int64_t tokens;
  int64_t documents;
  int64_t counts;
  int64_t end;

  explicit constexpr TokenShardLayout(const TokenShardHeader& header)
      : tokens(sizeof(TokenShardHeader)),
        documents((tokens + static_cast<int64_t>(header.tokens * header.token_bytes) + 7) / 8 * 8),
        counts(documents + static_cast<int64_t>(header.documents * 8)),
        end(counts + static_cast<int64_t>(header.vocabulary * 8)) {}
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_SHARD_LAYOUT_H_
