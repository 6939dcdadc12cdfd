#include "model/measure/head_projector.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/algebra/gram_factor.h"
#include "model/algebra/host_copy.h"
#include "model/algebra/inner_products.h"
#include "model/measure/head_figures.h"
#include "model/measure/head_projection.h"
#include "model/measure/tall_qr.h"
#include "ops/elementwise.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "ops/split.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns the smallest reciprocal condition at which a Gram matrix summed in `type` is accurate enough for the
// projection. In fp32 about 2e-5 of the retained energy are lost at 1e-4, growing in proportion. For bf16 weights that
// is little.
double LeastReciprocalCondition(DType type) {
  switch (type) {
    case DType::kFloat64:
      return 1e-8;
    case DType::kBFloat16:
      return 1e-5;
    default:
      return 1e-4;
  }
}
// This is the same for a Gram matrix in fp64 and sums in fp32.
constexpr double kLeastWide = 1e-11;

}  // namespace

absl::StatusOr<HeadProjector::Prepared> HeadProjector::Prepare(const HeadView& head, int64_t step, bool fresh) {
  const Tensor weight = head.weight;
  const Range rows = shape_.OwnRows(mesh_.data_rank());
  const Tensor own = weight.RowSlice(rows.begin, rows.size());
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.head.part_gram}, stream_));
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(own, own, memory_.head.part_gram, stream_));
  ISTHMUS_RETURN_IF_ERROR(SumHeadGram());
  if (shape_.has_down) ISTHMUS_RETURN_IF_ERROR(Cast({.x = head.down->weight, .y = memory_.head.down}, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(bool finite, IsFinite());
  if (!finite && shape_.type != DType::kFloat64) {  // squares may exceed fp32 though the head does not
    ISTHMUS_RETURN_IF_ERROR(SumWideGram(own));
    ISTHMUS_ASSIGN_OR_RETURN(finite, IsFinite());
  }
  if (!finite) return Prepared{.finite = false};

  ISTHMUS_ASSIGN_OR_RETURN(bool sound, Factor(LeastReciprocalCondition(shape_.type)));
  if (!sound && shape_.type != DType::kFloat64) {
    ISTHMUS_RETURN_IF_ERROR(SumWideGram(own));
    ISTHMUS_ASSIGN_OR_RETURN(sound, Factor(kLeastWide));
  }
  finder_.Rewind(step);
  Prepared prepared{.rank = shape_.width};
  if (sound) {
    ISTHMUS_RETURN_IF_ERROR(BeginSingularValues(step, fresh));
  } else if (!shape_.HostFactorsWithinAStep()) {
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.head.wide_projector}, stream_));
    prepared.rank = kUnknownRank;
    prepared.not_factored = absl::StrFormat(
        "it has not full rank or a condition above %.0g, and to factor one of %d columns would hold up "
        "the step; `isthmus decompose` measures it",
        1 / std::sqrt(shape_.type == DType::kFloat64 ? LeastReciprocalCondition(shape_.type) : kLeastWide),
        shape_.width);
  } else {
    // R satisfies RᵀR = UᵀU. A U of fewer rows than columns is its own R.
    ISTHMUS_ASSIGN_OR_RETURN(const Eigen::MatrixXd r,
                             shape_.vocabulary < shape_.width && head.classes == nullptr
                                 ? GatherRows(weight, shape_.vocabulary, mesh_.tensor().host(), stream_)
                                 : TriangularFactor(weight, mesh_.tensor().host(), stream_));
    Matrix down;
    if (shape_.has_down) {
      ISTHMUS_ASSIGN_OR_RETURN(down, HostCopy(memory_.head.down, stream_));
    }
    const HeadProjection projection = ProjectByFactor(r, down, shape_.vocabulary);
    ISTHMUS_RETURN_IF_ERROR(CopyToTensor(projection.projector, memory_.head.wide_projector, stream_));
    prepared.rank = projection.rank;
    const Eigen::VectorXd& found = projection.singular_values;
    finder_.Set({step, projection.rank, std::vector<double>(found.begin(), found.end())});
  }
  ISTHMUS_ASSIGN_OR_RETURN(prepared.energy, UseProjector());
  return prepared;
}

// Returns true if head_gram and E are finite.
absl::StatusOr<bool> HeadProjector::IsFinite() {
  InnerProducts squares(memory_.update.dots, memory_.update.sums, stream_);
  ISTHMUS_RETURN_IF_ERROR(squares.AddSquare(memory_.head.gram));
  if (shape_.has_down) ISTHMUS_RETURN_IF_ERROR(squares.AddSquare(memory_.head.down));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> values, squares.Values());
  return absl::c_all_of(values, [](double value) { return std::isfinite(value); });
}

// Turns part_gram from the Gram matrix of this data rank's part of the tensor rank's rows into that of the whole head.
absl::Status HeadProjector::SumHeadGram() {
  const Tensor gram = memory_.head.part_gram.Reshape(1, memory_.head.part_gram.size());
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduce(gram));
  if (mesh_.tensor_ranks() > 1) {
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = memory_.head.part_gram, .y = memory_.head.shard_gram}, stream_));
    ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().AllReduce(gram));
  }
  return Cast({.x = memory_.head.part_gram, .y = memory_.head.gram}, stream_);
}

absl::Status HeadProjector::SumWideGram(const Tensor& rows) {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.head.part_gram}, stream_));
  for (int64_t begin = 0; begin < rows.rows; begin += shape_.wide_rows()) {
    const Tensor block = rows.RowSlice(begin, std::min(shape_.wide_rows(), rows.rows - begin));
    const Tensor wide = memory_.head.wide_rows.RowSlice(0, block.rows);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = block, .y = wide}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Gram({.x = wide, .y = wide, .c = memory_.head.part_gram, .workspace = {}}, stream_));
  }
  return SumHeadGram();
}

absl::StatusOr<bool> HeadProjector::Factor(double least) {
  const auto factor = [&](const Tensor& gram, const Tensor& r, const Tensor& inverse,
                          double bound) -> absl::StatusOr<bool> {
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = gram, .y = r}, stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const bool definite,
                             FactorGram({.gram = r, .inverse = inverse, .workspace = memory_.head.factor}, stream_));
    if (!definite) return false;
    ISTHMUS_ASSIGN_OR_RETURN(const double condition, ReciprocalCondition(gram, inverse, memory_.head.factor, stream_));
    return condition > bound;
  };
  ISTHMUS_ASSIGN_OR_RETURN(const bool sound,
                           factor(memory_.head.gram, memory_.head.part_gram, memory_.head.wide_projector, least));
  if (!sound || !shape_.has_down) return sound;
  // W has the columns of U if E has full rank; the projection does not depend on E's condition.
  const Tensor& down_gram = memory_.update.down_gram;
  ISTHMUS_RETURN_IF_ERROR(
      Matmul({.a = memory_.head.down, .b = memory_.head.down, .c = down_gram, .transpose_b = true}, stream_));
  return factor(down_gram, memory_.head.first_square, memory_.head.second_square, kLeastWide);
}

absl::Status HeadProjector::BeginSingularValues(int64_t step, bool fresh) {
  if (!finder_.Wants(step, fresh)) return absl::OkStatus();
  Tensor gram = memory_.head.gram;
  if (shape_.has_down) {
    // WᵀW = Eᵀ M E has the same nonzero eigenvalues as R M Rᵀ, where E Eᵀ = RᵀR.
    const Tensor &r = memory_.head.first_square, &product = memory_.head.second_square;
    gram = memory_.head.part_gram;
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = r, .b = memory_.head.gram, .c = product}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = product, .b = r, .c = gram, .transpose_b = true}, stream_));
  }
  return finder_.Begin(gram, step, fresh, stream_);
}

absl::StatusOr<double> HeadProjector::UseProjector() {
  InnerProducts squares(memory_.update.dots, memory_.update.sums, stream_);
  ISTHMUS_RETURN_IF_ERROR(squares.AddSquare(memory_.head.wide_projector));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> values, squares.Values());
  if (shape_.sum_type() != DType::kFloat64) {
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = memory_.head.wide_projector, .y = memory_.head.projector}, stream_));
  }
  if (shape_.split)
    ISTHMUS_RETURN_IF_ERROR(SplitRight({.b = memory_.head.projector, .parts = memory_.head.projector_parts}, stream_));
  return values.front();
}

// Computes F = A P of a chunk of tokens, its Gram matrix, and the rows of their targets times P.
absl::Status HeadProjector::Project(const Tensor& signal, const Tensor& target_rows, const Tensor& projected,
                                    const Tensor& target_basis) {
  if (!shape_.split) {
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = signal, .b = memory_.head.projector, .c = projected}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = target_rows, .b = memory_.head.projector, .c = target_basis}, stream_));
    return memory_.AddGram(projected, projected, memory_.sums.projected_gram, stream_);
  }
  const Tensor parts = memory_.head.signal_parts.RowSlice(0, signal.rows),
               &projector_parts = memory_.head.projector_parts;
  ISTHMUS_RETURN_IF_ERROR(SplitLeft({.a = signal, .parts = parts}, stream_));
  ISTHMUS_RETURN_IF_ERROR(SplitMatmul({.a = parts, .b = projector_parts, .c = projected}, stream_));
  ISTHMUS_RETURN_IF_ERROR(SplitMatmul({.a = target_rows, .b = projector_parts, .c = target_basis}, stream_));
  // For the shares of shards and buckets F's rounding to bf16 does not matter: it does not grow with the condition.
  const Tensor narrow = parts.ColumnSlice(0, shape_.width);
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = projected, .y = narrow}, stream_));
  return memory_.AddGram(narrow, narrow, memory_.sums.projected_gram, stream_);
}

}  // namespace isthmus
