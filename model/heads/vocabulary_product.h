// Most heads end with this product with a matrix of vocabulary rows: logits = x Uᵀ. U [V, width] is cut by rows over
// the tensor ranks. A head may also bind other rows for a while.
#ifndef ISTHMUS_MODEL_HEADS_VOCABULARY_PRODUCT_H_
#define ISTHMUS_MODEL_HEADS_VOCABULARY_PRODUCT_H_

#include <absl/status/status.h>

#include <cstdint>

#include "model/linear.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class VocabularyProduct {
 public:
  // `setting` must outlive the product.
  VocabularyProduct(const PartSetting& setting, int64_t width) : setting_(&setting), width_(width) {}

  void Place(int64_t chunk, TensorPlacer& placer);
  void Bind(const ParameterStore& parameters, ParameterHandle parameter) {
    Bind(parameters.Weight(parameter), parameters.Gradient(parameter));
  }
  void Bind(const Tensor& weight, const Tensor& gradient) { linear_ = {weight, gradient}; }

  // Computes logits [n, V_i] accumulation type = x [n, width] Uᵀ.
  absl::Status Forward(const Tensor& x, const Tensor& logits, Stream& stream) const {
    return linear_.Forward(x, logits, stream);
  }
  // Computes grad_x [n, width] = grad_logits U, this shard's part. `signal` is as in LmHead::Backward.
  absl::Status BackwardInput(const Tensor& grad_logits, const Tensor& grad_x, const Tensor& signal,
                             Stream& stream) const;
  // Does the same, and adds grad_logitsᵀ x to the gradient of U.
  absl::Status Backward(const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x, const Tensor& signal,
                        Stream& stream) const;

  const Tensor& weight() const { return linear_.weight; }
  const Tensor& gradient() const { return linear_.gradient; }

 private:
  const PartSetting* setting_;
  int64_t width_;
  Linear linear_;
  // [chunk, width] accumulation type, only if that is not the compute type: the input's gradient before it is rounded.
  // All steps use it, so that measured ones compute the same bits.
  Tensor wide_grad_x_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_VOCABULARY_PRODUCT_H_
