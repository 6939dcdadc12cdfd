// Scales a tensor to the norm of another one. The norms are those of all tokens of a micro-batch, over all ranks.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_NORM_MATCH_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_NORM_MATCH_H_

#include <absl/status/status.h>

#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class NormMatch {
 public:
  void Place(TensorPlacer& placer) { squares_ = placer.Place("head.norm_match", DType::kFloat64, 1, 2); }

  // Scales x to the norm of `model`. Both are of the tokens that are local in `region`, in any floating type.
  // Collective over the data group, and under sequence parallelism over the tensor group.
  absl::Status OfTokens(const ConstTensor& model, const Tensor& x, const TensorRegion& region, Stream& stream) const;
  // Does the same for matrices that are cut over the tensor ranks, and the same on all data ranks. Collective over the
  // tensor group.
  absl::Status OfShards(const ConstTensor& model, const Tensor& x, const TensorRegion& region, Stream& stream) const;

 private:
  absl::Status Sum(const ConstTensor& model, const Tensor& x, Stream& stream) const;

  Tensor squares_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_NORM_MATCH_H_
