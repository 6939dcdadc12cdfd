// A head may have a bias: logits = x Uᵀ + b, with b [V] cut by rows as U is (model.head.bias). It begins as the logarithm of
// the tokens' shares of the training data, log((count_v + 1) / Σ (count + 1)). With x = 0 the head then predicts these
// shares, which a run without a bias learns first of all. Counts that are not known leave it at zero.
//
// ∂L/∂b_v = Σ_n G[n, v]. A = G W and B = Gᵀ H do not change. It is a parameter without weight decay. The sums over
// tokens are formed in fp64.
//
// With bf16 it is rounded to 8 bits where it is used, as all weights are: by 0.03 at most where it lies near -12.
#ifndef ISTHMUS_MODEL_HEADS_ROW_BIAS_H_
#define ISTHMUS_MODEL_HEADS_ROW_BIAS_H_

#include <absl/status/status.h>

#include "model/heads/heads.h"
#include "model/heads/row_values.h"
#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class RowBias {
 public:
  explicit RowBias(const HeadRequest& request);

  // Whether the configuration asks for it. Otherwise all calls do nothing.
  bool wanted() const { return wanted_; }

  void Declare(ParameterBuilder& parameters);
  void Place(TensorPlacer& placer);
  void Bind(const ParameterStore& parameters);

  // Begins a micro-batch of training.
  absl::Status Begin(Stream& stream) const;
  // Adds b to logits [n, V_i] of the accumulation type.
  absl::Status AddTo(const Tensor& logits, Stream& stream) const;
  // Takes the logits' gradient of a chunk.
  absl::Status AddChunk(const Tensor& grad_logits, Stream& stream) const;
  // Adds the gradient of the micro-batch to that of b.
  absl::Status Finish(Stream& stream) const;

  // Returns b [V_i, 1], undefined if there is none.
  const Tensor& weight() const { return weight_; }

 private:
  const PartSetting& setting_;
  const bool wanted_;
  const RowValues initial_;
  ParameterHandle parameter_;
  Tensor weight_, gradient_;  // [V_i, 1]
  Tensor sums_;               // fp64 [1, V_i]: of a micro-batch
  Tensor narrow_sums_;        // the same in the type of sums, unless that is fp64
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_ROW_BIAS_H_
