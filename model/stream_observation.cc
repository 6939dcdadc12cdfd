#include "model/stream_observation.h"

#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/reductions.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status AddDirections(const Tensor& x, const Tensor& squares, const Tensor& unit_sum, const Tensor& count,
                           Stream& stream) {
  const Tensor norms = squares.RowSlice(0, 1).ColumnSlice(0, x.rows);
  ISTHMUS_RETURN_IF_ERROR(RowDots({.x = x, .y = x, .dots = norms}, stream));
  ISTHMUS_RETURN_IF_ERROR(AddUnitRows({.x = x, .squares = norms, .total = unit_sum}, stream));
  // A row of one column has the direction 1, unless it is zero.
  const Tensor column = norms.Reshape(x.rows, 1);
  const Tensor column_squares = squares.RowSlice(1, 1).ColumnSlice(0, x.rows);
  ISTHMUS_RETURN_IF_ERROR(RowDots({.x = column, .y = column, .dots = column_squares}, stream));
  return AddUnitRows({.x = column, .squares = column_squares, .total = count}, stream);
}

absl::Status StreamObservation::Add(int64_t place, const Tensor& x, Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(AddColumnSums({.x = x, .total = sums.RowSlice(place, 1)}, stream));
  ISTHMUS_RETURN_IF_ERROR(
      AddDirections(x, squares, unit_sums.RowSlice(place, 1), counts.ColumnSlice(place, 1), stream));
  // Tokens that are not of this micro-batch read as zero.
  ISTHMUS_RETURN_IF_ERROR(EmbeddingForward({.ids = positions, .table = x, .first_row = 0, .y = found}, stream));
  return isthmus::Add({.x = found, .y = sampled.RowSlice(place * found.rows, found.rows)}, stream);
}

}  // namespace isthmus
