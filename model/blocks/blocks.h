// The kinds of blocks. Each is one file beside this one and one line in blocks.cc.
#ifndef ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
#define ISTHMUS_MODEL_BLOCKS_BLOCKS_H_

#include <functional>
#include <memory>
#include <string>

#include "model/blocks/block.h"
#include "model/part_setting.h"
#include "proto/config.pb.h"

namespace isthmus {

// The material of a block.
struct BlockRequest {
  std::string name;  // in its layer; begins the names of its parameters and tensors: "attention"
  const proto::ModelConfig& config;
  const PartSetting& setting;
};

struct BlockKind {
  std::string name;
  std::function<std::unique_ptr<Block>(const BlockRequest&)> make;
};

// Null if there is none of that name.
const BlockKind* FindBlock(const std::string& name);
// Adds a kind, or replaces the one of its name. To be called before models are made, on one thread.
void RegisterBlock(BlockKind kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
