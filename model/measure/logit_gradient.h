// Forms the logit gradient G of some tokens for some rows of the vocabulary again, from the tokens' losses.
#ifndef ISTHMUS_MODEL_MEASURE_LOGIT_GRADIENT_H_
#define ISTHMUS_MODEL_MEASURE_LOGIT_GRADIENT_H_

#include <absl/status/status.h>

#include <cstdint>

#include "ops/loss_form.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The loss has later targets besides (ops/future_targets.h). All tensors lie in memory of the stream's device.
struct LaterTargets {
  ConstTensor targets;                       // int32 [1 + K, n], the ordinary ones first; undefined: there are none
  ConstTensor weights;                       // fp64 [1, K]
  ConstTensor target_weight, excess_weight;  // [1, n] in the type of `gradient`
  Tensor target_logits;                      // [n, K] in that type: scratch
};

// There are n tokens. All tensors lie in memory of the stream's device.
struct LogitGradientTokens {
  ConstTensor input;              // [n, width] what enters the vocabulary-sized factor U
  ConstTensor targets;            // int32 [1, n]
  ConstTensor loss, log_sum_exp;  // [1, n] in the type of `gradient`
  LaterTargets later;
  LossForm form;
  double scale = 1;  // of each token's loss
  int exponent = 0;  // logits are input Uᵀ times 2^exponent, plus a bias; not 0 in host memory only
};

// There are some rows of the head.
struct LogitRows {
  ConstTensor weight;  // [rows, width] of U
  ConstTensor bias;    // [rows, 1], of the same type; undefined: none

  LogitRows Slice(int64_t begin, int64_t count) const {
    return {weight.RowSlice(begin, count), bias.defined() ? bias.RowSlice(begin, count) : ConstTensor()};
  }
};

// Computes logits [n, rows], before a soft cap; fp32 or fp64.
absl::Status FormLogits(const LogitGradientTokens& tokens, const LogitRows& rows, const Tensor& logits, Stream& stream);
// Does the same, and then replaces the logits by their gradient. `first_row` is the place of `rows` in the vocabulary.
absl::Status FormLogitGradient(const LogitGradientTokens& tokens, const LogitRows& rows, int64_t first_row,
                               const Tensor& gradient, Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LOGIT_GRADIENT_H_
