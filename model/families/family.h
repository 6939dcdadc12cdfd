// A family of models as a table: what its layers consist of, and what other programs call its parameters.
//
// Columns may ask for more than this program has: CheckFamily then refuses the family. The comment of a value says
// where its implementation has its place. Three things have no column. The activation, and which projections are
// packed, are part of a block's kind (model/blocks). Tied embeddings are a kind of head (model/heads).
#ifndef ISTHMUS_MODEL_FAMILIES_FAMILY_H_
#define ISTHMUS_MODEL_FAMILIES_FAMILY_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/blocks/blocks.h"
#include "proto/config.pb.h"

namespace isthmus {

// A block of a layer.
struct BlockSlot {
  std::string kind;  // of model/blocks/blocks.h
  std::string name;  // in the layer
  // The block has these beside its kind, in its own file: biases, a norm on queries and keys, partial rotation.
  BlockOptions options;
};

// How a block learns where a token stands.
enum class Positions {
  kRotary,   // blocks turn queries and keys (model/blocks/attention.cc)
  kLearned,  // a table that is added to the token embeddings has its place in model/embedding.cc; this program has none
};

// How the blocks of a layer meet the residual stream.
enum class ResidualForm {
  kSequential,  // each block adds to what the one before it has left (model/layer.cc)
  kParallel,    // all blocks read the layer's entrance; has its place in model/layer.cc; this program has none
};

// A part of a parameter's name, and what stands in its place in files of other programs.
struct ForeignPart {
  std::string own, foreign;
};

struct Family {
  std::string name;  // model.family
  // The blocks of a layer, in their order. Layers may differ.
  std::function<std::vector<BlockSlot>(const proto::ModelConfig& config, int64_t layer)> blocks;
  std::string norm = "rms_norm";  // of model/norm.h, for all norms; a kind is a file beside model/rms_norm.cc
  Positions positions = Positions::kRotary;
  ResidualForm residual = ResidualForm::kSequential;
  // For parameters outside layers: whole names. For those in layers: parts after the layer's prefix.
  std::vector<ForeignPart> foreign_names;
  std::string foreign_layers;  // begins the names in layers, before the layer's number: "model.layers."

  // The parameter's name in files of other programs; empty if they have none.
  std::string ForeignName(const std::string& own) const;
};

// Null if there is none of that name.
const Family* FindFamily(const std::string& name);
// Checks that there is the family that `config` names, and that this program has all that its table asks for.
// `config`: its layers are sound, defaults of blocks need not be filled in.
// Errors: InvalidArgument "source: model.family: what was found; what is accepted".
absl::Status CheckFamily(const proto::ModelConfig& config, absl::string_view source);
// Adds a family, or replaces the one of its name. To be called before models are made, on one thread.
void RegisterFamily(Family family);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_FAMILIES_FAMILY_H_
