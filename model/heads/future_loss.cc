#include "model/heads/future_loss.h"

#include <algorithm>
#include <iterator>

#include "ops/future_targets.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

void FutureLoss::Place(int64_t chunk, DType type, TensorPlacer& placer) {
  memory_.weights = placer.Place("head.future_weights", DType::kFloat64, 1, offsets_);
  memory_.losses = placer.Place("head.future_losses", type, offsets_, chunk);
  memory_.target_weight = placer.Place("head.future_target_weight", type, 1, chunk);
  memory_.excess_weight = placer.Place("head.future_excess_weight", type, 1, chunk);
}

absl::Status FutureLoss::BeginStep(absl::Span<const double> weights, Stream& stream) {
  if (weights.empty()) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor host, staging_.Room(DType::kFloat64, 1, offsets_, stream));
  std::copy(weights.begin(), weights.end(), host.As<double>());
  return StartCopyFromHost(host, memory_.weights, stream);
}

absl::Status FutureLoss::Compare(const Chunk& chunk, const ConstTensor& gathered, int64_t shards,
                                 const ConstTensor& loss, const Tensor& energy, Stream& stream) {
  const int64_t tokens = chunk.targets.columns;
  return FutureTargetLosses({.gathered = gathered,
                             .shards = shards,
                             .targets = chunk.targets,
                             .weights = memory_.weights,
                             .form = chunk.form,
                             .loss = loss,
                             .losses = memory_.losses.ColumnSlice(0, tokens),
                             .target_weight = target_weight(tokens),
                             .excess_weight = excess_weight(tokens),
                             .energy = energy},
                            stream);
}

absl::Status FutureLoss::CompleteGradient(const Chunk& chunk, const ConstTensor& target_logits,
                                          const ConstTensor& log_sum_exp, double scale, const Tensor& gradient,
                                          Stream& stream) const {
  return FutureTargetGradient({.targets = chunk.targets,
                               .first_row = chunk.first_class,
                               .weights = memory_.weights,
                               .target_logits = target_logits,
                               .log_sum_exp = log_sum_exp,
                               .form = chunk.form,
                               .scale = scale,
                               .grad_logits = gradient},
                              stream);
}

}  // namespace isthmus
