// A family of models as a table: what its layers consist of, and what other programs call its parameters.
#ifndef ISTHMUS_MODEL_FAMILIES_FAMILY_H_
#define ISTHMUS_MODEL_FAMILIES_FAMILY_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "proto/config.pb.h"

namespace isthmus {

// A block of a layer.
struct BlockSlot {
  std::string kind;  // of model/blocks/blocks.h
  std::string name;  // in the layer
};

// A part of a parameter's name, and what stands in its place in files of other programs.
struct ForeignPart {
  std::string own, foreign;
};

struct Family {
  std::string name;  // model.family
  // The blocks of a layer, in their order. Layers may differ.
  std::function<std::vector<BlockSlot>(const proto::ModelConfig& config, int64_t layer)> blocks;
  // For parameters outside layers: whole names. For those in layers: parts after the layer's prefix.
  std::vector<ForeignPart> foreign_names;
  std::string foreign_layers;  // begins the names in layers, before the layer's number: "model.layers."

  // The parameter's name in files of other programs; empty if they have none.
  std::string ForeignName(const std::string& own) const;
};

// Null if there is none of that name.
const Family* FindFamily(const std::string& name);
// Errors: InvalidArgument "source: model.family: what was found; what is accepted".
absl::Status CheckFamily(const proto::ModelConfig& config, absl::string_view source);
// Adds a family, or replaces the one of its name. To be called before models are made, on one thread.
void RegisterFamily(Family family);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_FAMILIES_FAMILY_H_
