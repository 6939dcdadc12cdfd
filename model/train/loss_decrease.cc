#include "model/train/loss_decrease.h"

#include <absl/types/span.h>

#include <cstddef>
#include <utility>

#include "runtime/status.h"

namespace isthmus {
namespace {

// Adds the decreases of parameters up. They are by parameter.
LossDecreases SumsOf(const std::vector<double>& decreases, const Optimizer& optimizer) {
  LossDecreases sums;
  sums.groups.resize(optimizer.groups().size());
  for (size_t i = 0; i < decreases.size(); ++i) {
    const ParameterRole role = optimizer.specs()[i].role;
    double& part = role == ParameterRole::kEmbedding ? sums.embedding
                   : role == ParameterRole::kHead    ? sums.head
                                                     : sums.blocks;
    part += decreases[i];
    if (const int group = optimizer.GroupOf(i); group >= 0) sums.groups[static_cast<size_t>(group)] += decreases[i];
  }
  return sums;
}

}  // namespace

absl::StatusOr<LossDecrease> LossDecrease::Begin(Optimizer& optimizer) {
  LossDecrease decrease(optimizer);
  ISTHMUS_ASSIGN_OR_RETURN(decrease.before_, optimizer.WeightProducts());
  return decrease;
}

absl::StatusOr<LossDecreases> LossDecrease::End(const Mesh& mesh) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> after, optimizer_->WeightProducts());
  std::vector<double> decrease(after.size());
  // Ranks with the same elements have the same products. The first of them counts.
  const bool counts = optimizer_->sharded() || mesh.data_rank() == 0;
  for (size_t i = 0; i < after.size(); ++i) {
    const bool replicated = optimizer_->specs()[i].sharding == Sharding::kReplicated;
    if (counts && (!replicated || mesh.tensor_rank() == 0)) decrease[i] = before_[i] - after[i];
  }
  if (mesh.data_ranks() > 1) ISTHMUS_RETURN_IF_ERROR(mesh.data().AllReduceNumbers(absl::MakeSpan(decrease)));
  if (mesh.tensor_ranks() > 1) ISTHMUS_RETURN_IF_ERROR(mesh.tensor().AllReduceNumbers(absl::MakeSpan(decrease)));
  return SumsOf(decrease, *optimizer_);
}

}  // namespace isthmus
