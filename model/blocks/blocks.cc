#include "model/blocks/blocks.h"

#include <utility>

#include "model/kind_list.h"

namespace isthmus {

BlockKind AttentionKind();
BlockKind SwigluKind();

namespace {

KindList<BlockKind>& Blocks() {
  static KindList<BlockKind> list({
      AttentionKind(),
      SwigluKind(),
  });
  return list;
}

}  // namespace

const BlockKind* FindBlock(const std::string& name) { return Blocks().Find(name); }

void RegisterBlock(BlockKind kind) { Blocks().Add(std::move(kind)); }

}  // namespace isthmus
