// The kinds of blocks. Each is one file beside this one and one line in blocks.cc. The file holds all that is known of
// the kind, its rules of the configuration too.
#ifndef ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
#define ISTHMUS_MODEL_BLOCKS_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "model/blocks/block.h"
#include "model/part_setting.h"
#include "proto/config.pb.h"
#include "runtime/config_rules.h"

namespace isthmus {

// The material of a block.
struct BlockRequest {
  std::string name;  // in its layer; begins the names of its parameters and tensors: "attention"
  const proto::ModelConfig& config;
  const PartSetting& setting;
};

// What a block's rules judge.
struct BlockConfig {
  proto::ModelConfig& model;  // its width and layers are sound
  int64_t tensor_ranks = 1;
  bool fp8 = false;  // the block's products are of 8-bit operands
};

struct BlockKind {
  std::string name;
  std::function<std::unique_ptr<Block>(const BlockRequest&)> make;
  // Fills in the defaults of the block's own fields, then checks them. Returns the widest rows that the block makes on
  // all ranks together; of no account once a rule is broken. Null: there is nothing to fill in, and rows are no wider
  // than the residual stream. Called once, however many layers have the block.
  std::function<ConfigFactor(const BlockConfig&, ConfigRules&)> resolve;
};

// Null if there is none of that name.
const BlockKind* FindBlock(const std::string& name);
// Adds a kind, or replaces the one of its name. To be called before models are made, on one thread.
void RegisterBlock(BlockKind kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
