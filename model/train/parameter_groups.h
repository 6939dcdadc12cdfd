// The optimizer's settings for each parameter: those of the first group that its name matches, else those of all.
#ifndef ISTHMUS_MODEL_TRAIN_PARAMETER_GROUPS_H_
#define ISTHMUS_MODEL_TRAIN_PARAMETER_GROUPS_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "model/train/update_rule.h"
#include "proto/config.pb.h"

namespace isthmus {

struct ParameterSettings {
  int group = -1;  // index into OptimizerConfig.groups; -1: none
  const UpdateRule* rule = nullptr;
  double learning_rate_factor = 1;
  double beta1 = 0, beta2 = 0, epsilon = 0;
  double weight_decay = 0;  // 0 for parameters that are never decayed

  // The tensors that the optimizer keeps of the parameter: the master weight of bf16, and the rule's state.
  std::vector<proto::TensorRole> Kept(DType compute_type) const;
};

// By parameter of the table. The configuration has passed CheckParameterGroups.
std::vector<ParameterSettings> SettingsOf(const proto::OptimizerConfig& config, const ParameterTable& table);

// A group as people see it.
struct ParameterGroupFigures {
  std::string name;
  double learning_rate_factor = 1;
  int64_t parameters = 0;  // elements of the whole model
};
std::vector<ParameterGroupFigures> GroupFiguresOf(const proto::OptimizerConfig& config, const ParameterTable& table);

// Errors: InvalidArgument "source: optimizer.groups: group NAME: field: what was found; what is accepted", also for a
// pattern that matches no parameter of the model.
absl::Status CheckParameterGroups(const proto::OptimizerConfig& config, const ParameterTable& table,
                                  absl::string_view source);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_PARAMETER_GROUPS_H_
