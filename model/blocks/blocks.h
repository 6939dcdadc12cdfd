// The program has these kinds of blocks. Each is one file beside this one and one line in blocks.cc. The file holds all
// that is known of the kind, its rules of the configuration too.
#ifndef ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
#define ISTHMUS_MODEL_BLOCKS_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/blocks/block.h"
#include "model/part_setting.h"
#include "proto/config.pb.h"
#include "runtime/config_rules.h"

namespace isthmus {

// A family may ask these options of a block beside its kind. Each option is implemented in the file of a block that has
// it.
struct BlockOptions {
  bool biases = false;          // of the block's projections
  bool query_key_norm = false;  // a norm on each head's queries and keys
  double rotated_share = 1;     // of a head's features, by rotary positions; 0: none turn

  // Returns the names of the options that ask for something: "biases", "query_key_norm", "rotated_share".
  std::vector<std::string> Asked() const;
};

// A block is made from this.
struct BlockRequest {
  std::string name;  // in its layer; begins the names of its parameters and tensors: "attention"
  const proto::ModelConfig& config;
  const PartSetting& setting;
  BlockOptions options;  // asks for no more than the kind has
};

// A block's rules judge this.
struct BlockConfig {
  proto::ModelConfig& model;  // its width and layers are sound
  int64_t tensor_ranks = 1;
  bool fp8 = false;  // the block's products are of 8-bit operands
};

struct BlockKind {
  std::string name;
  std::function<std::unique_ptr<Block>(const BlockRequest&)> make;
  // Fills in the defaults of the block's own fields, then checks them. Returns the widest rows that the block makes on
  // all ranks together; they do not matter once a rule is broken. If it is null, there is nothing to fill in, and rows
  // are no wider than the residual stream. It is called once, however many layers have the block.
  std::function<ConfigFactor(const BlockConfig&, ConfigRules&)> resolve;
  // These are the names of the options that the block has. A family that asks for others is refused.
  std::vector<std::string> options;
};

// Returns null if there is none of that name.
const BlockKind* FindBlock(const std::string& name);
// Returns the names in the order of the list, for messages.
std::vector<std::string> BlockNames();
// Adds a kind, or replaces the one of its name. It must be called before models are made, on one thread.
void RegisterBlock(BlockKind kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_BLOCKS_H_
