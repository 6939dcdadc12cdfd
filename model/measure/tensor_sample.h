// Holds the sampled tokens of tensors that lie in memory as what their logits and logit gradient are formed from again.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_SAMPLE_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_SAMPLE_H_

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_tokens.h"
#include "ops/loss_form.h"
#include "parallel/shard.h"

namespace isthmus {

class TensorSample {
 public:
  // `tokens` is N: the gradient is that of the mean loss over all of them, of the given form.
  TensorSample(const TensorHead& head, const TensorTokenSums& sums, int64_t tokens, const LossForm& form);

  int64_t count() const { return input_.rows(); }
  const LossForm& form() const { return form_; }
  // Views some of the sampled tokens. The view must not outlive this object.
  LogitGradientTokens In(const Range& range) const;
  LogitGradientTokens All() const { return In({0, count()}); }

 private:
  Matrix input_, loss_, log_sum_exp_;
  std::vector<int32_t> targets_;
  double scale_;
  int exponent_;
  LossForm form_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_SAMPLE_H_
