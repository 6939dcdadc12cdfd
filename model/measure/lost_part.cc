#include "model/measure/lost_part.h"

#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status LostPart::Add(const Tensor& gradient, const ConstTensor& basis, const ConstTensor& factor,
                           Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(
      Matmul({.a = TensorOf(kept_), .b = basis, .c = gradient, .transpose_b = true, .accumulate = true}, stream));
  energy_ += ViewOf(gradient).squaredNorm();
  return Matmul({.a = gradient, .b = factor, .c = TensorOf(passed_on_), .accumulate = true}, stream);
}

absl::Status LostPart::Sum(Communicator& group) {
  ISTHMUS_RETURN_IF_ERROR(group.AllReduceNumbers(absl::MakeSpan(&energy_, 1)));
  return group.AllReduce(TensorOf(passed_on_).Reshape(1, passed_on_.size()));
}

double LostPart::PassedOn(const Matrix& down, double largest) const {
  if (!(largest > 0)) return 0;
  const Matrix passed_on = down.size() > 0 ? Matrix(passed_on_ * down) : passed_on_;
  return (passed_on / largest).squaredNorm();
}

}  // namespace isthmus
