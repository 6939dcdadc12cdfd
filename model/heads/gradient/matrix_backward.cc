#include "model/heads/gradient/matrix_backward.h"

#include <utility>

#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {

void MatrixBackward::Place(int64_t /*chunk*/, TensorPlacer& placer) {
  const int64_t width = setting_.width, tokens = setting_.local_tokens();
  const DType type = setting_.sum_type();
  gram_.Place(placer);
  norm_.Place(placer);
  matrix_ = placer.Place("head.backward.matrix", type, width, width);
  if (setting_.type == type) return;
  wide_plain_ = placer.Place("head.backward.wide_plain", type, tokens, width);
  wide_passed_ = placer.Place("head.backward.wide_passed", type, tokens, width);
}

void MatrixBackward::Bind(const ParameterStore& /*parameters*/, const TensorRegion& region, Stream& stream) {
  region_ = &region;
  stream_ = &stream;
  last_step_ = kNoStep;
}

absl::Status MatrixBackward::BeginStep(const HeadView& head, int64_t step) {
  const bool goes_on = step > std::exchange(last_step_, step);
  if (goes_on && (step - 1) % interval_ != 0) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor gram, gram_.OfHidden(head, *region_, *stream_));
  ISTHMUS_ASSIGN_OR_RETURN(found_, FindMatrix(gram, *stream_));
  return found_ ? Cast({.x = gram, .y = matrix_}, *stream_) : absl::OkStatus();
}

absl::Status MatrixBackward::Finish(const Tensor& plain, const Tensor& passed) {
  const Tensor local = region_->LocalPart(passed);
  if (!found_) return Cast({.x = plain, .y = local}, *stream_);
  if (!wide_plain_.defined()) return Multiply(plain, local);
  const Tensor from = wide_plain_.RowSlice(0, plain.rows), to = wide_passed_.RowSlice(0, plain.rows);
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = plain, .y = from}, *stream_));
  ISTHMUS_RETURN_IF_ERROR(Multiply(from, to));
  return Cast({.x = to, .y = local}, *stream_);
}

absl::Status MatrixBackward::Multiply(const Tensor& plain, const Tensor& passed) {
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = plain, .b = matrix_, .c = passed}, *stream_));
  return match_norm_ ? norm_.OfTokens(plain, passed, *region_, *stream_) : absl::OkStatus();
}

double MatrixBackward::FlopsPerToken() const { return 2 * static_cast<double>(setting_.width * setting_.width); }

}  // namespace isthmus
