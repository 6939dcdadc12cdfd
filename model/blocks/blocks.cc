#include "model/blocks/blocks.h"

#include <utility>

#include "model/kind_list.h"

namespace isthmus {

std::unique_ptr<Block> MakeAttention(const BlockRequest& request);
std::unique_ptr<Block> MakeSwiglu(const BlockRequest& request);

namespace {

KindList<BlockKind>& Blocks() {
  static KindList<BlockKind> list({
      {"attention", MakeAttention},
      {"swiglu", MakeSwiglu},
  });
  return list;
}

}  // namespace

const BlockKind* FindBlock(const std::string& name) { return Blocks().Find(name); }

void RegisterBlock(BlockKind kind) { Blocks().Add(std::move(kind)); }

}  // namespace isthmus
