// A head has vocabulary rows U [V, width]. Fixed factors (row_scale.h) and a bias (row_bias.h) may belong to them:
// logits = x Wᵀ + b with W = U or diag(s) U.
#ifndef ISTHMUS_MODEL_HEADS_HEAD_ROWS_H_
#define ISTHMUS_MODEL_HEADS_HEAD_ROWS_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/heads/row_bias.h"
#include "model/heads/row_scale.h"
#include "model/heads/vocabulary_product.h"
#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class HeadRows {
 public:
  HeadRows(const HeadRequest& request, int64_t width);

  // Takes the parameter U, and declares the others.
  void Declare(ParameterHandle rows, ParameterBuilder& parameters);
  void Place(int64_t chunk, TensorPlacer& placer);
  void Bind(const ParameterStore& parameters, Stream& stream);

  // These are as in LmHead. A step of training may begin without BeginStep.
  absl::Status BeginStep();
  absl::Status Begin();
  absl::Status BeginReading();
  // Computes logits [n, V_i] accumulation type.
  absl::Status Forward(const Tensor& x, const Tensor& logits) const;
  // Computes grad_x [n, width], this shard's part, and adds to the gradients. `signal` is as in LmHead::Backward.
  absl::Status Backward(const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x, const Tensor& signal) const;
  absl::Status Finish() const;

  // Sets the rows of a view, W with its gradient, and b.
  absl::Status AddTo(HeadView& view);
  ParameterHandle parameter() const { return parameter_; }

 private:
  const PartSetting& setting_;
  VocabularyProduct product_;  // with W
  RowBias bias_;
  RowScale scale_;
  ParameterHandle parameter_;  // U
  Stream* stream_ = nullptr;
  bool folded_ = false;  // W is that of the running step
};

// Works as HeadKind::check, for the settings of the rows of a head of this kind.
std::string CheckHeadRows(const proto::ModelConfig& config, const HeadKind& kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_HEAD_ROWS_H_
