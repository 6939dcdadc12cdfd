// The rows of a head may have fixed factors: W = diag(s) U with s_v = (count_v + 1)^a, scaled so that the mean of s² is 1
// (model.head.row_scale, a). With a below 0 the logits of frequent tokens move less than those of rare ones for the same
// step of U, and with a above 0 more. The head can express what a full head can.
//
// W is made once in a step: the decomposition and what goes back to the hidden states see W. Its gradient is B = Gᵀ H,
// and that of U is diag(s) B.
//
// s is a parameter of the model that has no gradient and no decay, so that no optimizer changes it. Checkpoints hold it,
// at any mesh, and a run that resumes keeps it whatever its data. Without counts it is 1.
//
// Memory: W, and in training B. Cost of a step: one pass over U and W; of a micro-batch one over both gradients.
#ifndef ISTHMUS_MODEL_HEADS_ROW_SCALE_H_
#define ISTHMUS_MODEL_HEADS_ROW_SCALE_H_

#include <absl/status/status.h>

#include <cstdint>

#include "model/heads/heads.h"
#include "model/heads/row_values.h"
#include "model/linear.h"
#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class RowScale {
 public:
  // `width`: columns of U.
  RowScale(const HeadRequest& request, int64_t width);

  // Whether the configuration asks for it. Otherwise there are no other calls.
  bool wanted() const { return wanted_; }

  void Declare(ParameterBuilder& parameters);
  void Place(TensorPlacer& placer);
  // Takes the view of U.
  void Bind(const ParameterStore& parameters, const Linear& rows);

  // Returns W and the memory of its gradient, both [V_i, width].
  const Linear& folded() const { return folded_; }

  // Makes W.
  absl::Status Fold(Stream& stream) const;
  // Begins a micro-batch: B is zero.
  absl::Status ResetGradient(Stream& stream) const;
  // Ends it: adds diag(s) B to the gradient of U.
  absl::Status AddGradient(Stream& stream) const;
  // Makes B from the gradient of U instead.
  absl::Status TakeGradient(Stream& stream) const;

 private:
  const PartSetting& setting_;
  const int64_t width_;
  const bool wanted_;
  const RowValues initial_;
  ParameterHandle parameter_;
  Linear rows_;     // U
  Tensor factors_;  // s [V_i, 1]
  Linear folded_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_ROW_SCALE_H_
