#include "model/heads/gradient/norm_match.h"

#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status NormMatch::OfTokens(const ConstTensor& model, const Tensor& x, const TensorRegion& region,
                                 Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(Sum(model, x, stream));
  if (region.sequence_parallel()) ISTHMUS_RETURN_IF_ERROR(region.tensor().AllReduce(squares_));
  if (region.data().size() > 1) ISTHMUS_RETURN_IF_ERROR(region.data().AllReduce(squares_));
  return ScaleToNorm({.x = x, .squares = squares_}, stream);
}

absl::Status NormMatch::OfShards(const ConstTensor& model, const Tensor& x, const TensorRegion& region,
                                 Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(Sum(model, x, stream));
  if (region.tensor().size() > 1) ISTHMUS_RETURN_IF_ERROR(region.tensor().AllReduce(squares_));
  return ScaleToNorm({.x = x, .squares = squares_}, stream);
}

absl::Status NormMatch::Sum(const ConstTensor& model, const Tensor& x, Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = squares_}, stream));
  ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = x, .total = squares_.ColumnSlice(0, 1)}, stream));
  return AddSumOfSquares({.x = model, .total = squares_.ColumnSlice(1, 1)}, stream);
}

}  // namespace isthmus
