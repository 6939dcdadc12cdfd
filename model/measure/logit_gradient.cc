#include "model/measure/logit_gradient.h"

#include "model/algebra/matrix.h"
#include "model/measure/tensor_scales.h"
#include "ops/broadcast.h"
#include "ops/cross_entropy.h"
#include "ops/future_targets.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status FormLogits(const LogitGradientTokens& tokens, const LogitRows& rows, const Tensor& logits,
                        Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = tokens.input, .b = rows.weight, .c = logits, .transpose_b = true}, stream));
  if (tokens.exponent != 0) ViewOf(logits) = TimesPowerOfTwo(ViewOf(logits), tokens.exponent);
  if (!rows.bias.defined()) return absl::OkStatus();
  return AddRow({.x = rows.bias.Reshape(1, logits.columns), .y = logits}, stream);
}

absl::Status FormLogitGradient(const LogitGradientTokens& tokens, const LogitRows& rows, int64_t first_row,
                               const Tensor& gradient, Stream& stream) {
  const LaterTargets& later = tokens.later;
  ISTHMUS_RETURN_IF_ERROR(FormLogits(tokens, rows, gradient, stream));
  if (later.targets.defined()) {
    ISTHMUS_RETURN_IF_ERROR(FutureTargetLogits({.logits = gradient,
                                                .targets = later.targets.RowSlice(1, later.weights.columns),
                                                .first_row = first_row,
                                                .form = tokens.form,
                                                .target_logits = later.target_logits},
                                               stream));
  }
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = gradient,
                                                .targets = tokens.targets,
                                                .first_row = first_row,
                                                .loss = tokens.loss,
                                                .log_sum_exp = tokens.log_sum_exp,
                                                .form = tokens.form,
                                                .target_weight = later.target_weight,
                                                .excess_weight = later.excess_weight,
                                                .scale = tokens.scale,
                                                .grad_logits = gradient},
                                               stream));
  if (!later.targets.defined()) return absl::OkStatus();
  return FutureTargetGradient({.targets = later.targets,
                               .first_row = first_row,
                               .weights = later.weights,
                               .target_logits = later.target_logits,
                               .log_sum_exp = tokens.log_sum_exp,
                               .form = tokens.form,
                               .scale = tokens.scale,
                               .grad_logits = gradient},
                              stream);
}

}  // namespace isthmus
