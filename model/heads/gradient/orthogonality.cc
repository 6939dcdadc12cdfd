#include "model/heads/gradient/orthogonality.h"

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<double> Orthogonality::AddTerms(const HeadMatrices& matrices, const HeadTerms& terms,
                                               Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sums_}, stream));
  ISTHMUS_RETURN_IF_ERROR(matrices.AddTrace(matrices.rows(), sums_.ColumnSlice(0, 1), stream));
  ISTHMUS_RETURN_IF_ERROR(
      AddDot({.x = matrices.rows(), .y = matrices.rows_in_inner(), .total = sums_.ColumnSlice(1, 1)}, stream));
  double sums[2] = {};
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(sums_, Tensor(sums, DType::kFloat64, 1, 2), stream));
  const auto [trace, squares] = sums;
  // All steps call the same operators, so that a plan knows them.
  const bool sound = trace > 0;
  const double factor = sound ? 4 * weight_ * static_cast<double>(rank_) / (trace * trace) : 0;
  const double mean = sound ? squares / trace : 0;  // q
  ISTHMUS_RETURN_IF_ERROR(Combine({.x = matrices.rows_in_inner(), .y = terms.rows, .x_factor = factor}, stream));
  ISTHMUS_RETURN_IF_ERROR(matrices.AddInner(-factor * mean, terms.rows, stream));
  if (matrices.has_down()) {
    ISTHMUS_RETURN_IF_ERROR(Combine({.x = matrices.inner_in_rows(), .y = terms.down, .x_factor = factor}, stream));
    ISTHMUS_RETURN_IF_ERROR(Combine({.x = matrices.rows(), .y = terms.down, .x_factor = -factor * mean}, stream));
  }
  return sound ? weight_ * (static_cast<double>(rank_) * squares / (trace * trace) - 1) : 0;
}

}  // namespace isthmus
