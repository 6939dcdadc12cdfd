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

std::vector<std::string> BlockOptions::Asked() const {
  std::vector<std::string> names;
  if (biases) names.emplace_back("biases");
  if (query_key_norm) names.emplace_back("query_key_norm");
  if (rotated_share != 1) names.emplace_back("rotated_share");
  return names;
}

const BlockKind* FindBlock(const std::string& name) { return Blocks().Find(name); }

std::vector<std::string> BlockNames() { return Blocks().Names(); }

void RegisterBlock(BlockKind kind) { Blocks().Add(std::move(kind)); }

}  // namespace isthmus
