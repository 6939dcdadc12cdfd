// A rule says how weights follow from gradients: AdamW, for example. Each kind is one file in model/train/rules and one
// line in update_rule.cc. The configuration names it, for all parameters (optimizer.kind) or for a group of them.
#ifndef ISTHMUS_MODEL_TRAIN_UPDATE_RULE_H_
#define ISTHMUS_MODEL_TRAIN_UPDATE_RULE_H_

#include <absl/status/status.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "parallel/mesh.h"
#include "parallel/shard.h"
#include "proto/checkpoint.pb.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The elements of one parameter that this rank updates. All tensors are [1, elements.size()], in the accumulation type
// but for compute_weight. A rank may own no element of a parameter.
struct OwnedElements {
  const ParameterSpec* spec = nullptr;
  Range elements;  // in the arena
  ConstTensor gradient;
  Tensor weight;              // the master weight where there is one
  Tensor compute_weight;      // bf16; only where there is a master weight
  std::vector<Tensor> state;  // one for each role of the rule, in its order
};

struct UpdateNumbers {
  int64_t step = 1;          // counts from 1
  double learning_rate = 0;  // with the factor of the parameter's group
  double beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
  double grad_scale = 1;  // gradients are multiplied by it
};

// Where an update happens. `scratch` is of the accumulation type, [1, n] with the n that the rule asked for.
struct UpdatePlace {
  const Mesh& mesh;
  bool sharded = false;  // data ranks own different elements
  Tensor scratch;
  Stream& stream;
};

struct UpdateRule {
  std::string name;
  // The roles of what is kept of each element from step to step, beside its master weight. It is zero at first.
  std::vector<proto::TensorRole> state;
  std::function<absl::Status(const OwnedElements&, const UpdateNumbers&, const UpdatePlace&)> update;
  // Returns why the rule can't update a parameter, and what it accepts. The text is empty if it can. Null: it always can.
  std::function<std::string(const ParameterSpec&)> refuse;
  // Returns the elements of scratch memory for a parameter. A rule that has this function sees whole matrices: all ranks
  // call `update` for each parameter in the same order, and it may use the mesh's collectives.
  std::function<int64_t(const ParameterSpec&)> scratch;
};

// Returns null if there is none of that name.
const UpdateRule* FindUpdateRule(const std::string& name);
// Returns the names, for messages.
std::vector<std::string> UpdateRuleNames();
// Adds a rule, or replaces the one of its name. It must be called before models are made, on one thread.
void RegisterUpdateRule(UpdateRule rule);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_UPDATE_RULE_H_
