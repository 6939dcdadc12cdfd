#include "model/heads/gradient/weight_gradient.h"

#include "model/algebra/gram_factor.h"
#include "model/algebra/host_copy.h"
#include "model/algebra/symmetric.h"
#include "ops/elementwise.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// A Gram matrix whose reciprocal condition is below this may have lost all digits of its smallest eigenvalues.
constexpr double kLeastCondition = 1e-13;

}  // namespace

WeightGradient::WeightGradient(const proto::HeadWeightGradientConfig& config, const HeadShape& shape,
                               const PartSetting& setting)
    : setting_(setting),
      shape_(shape),
      part_(config.kind() == "visible" ? Part::kVisible
            : config.kind() == "lost"  ? Part::kLost
                                       : Part::kFull),
      match_norm_(config.match_norm()),
      gram_(shape, setting),
      wide_rows_(setting, shape.width) {}

void WeightGradient::Place(TensorPlacer& placer) {
  const int64_t width = shape_.width;
  const DType type = setting_.sum_type();
  const auto square = [&](const char* name) { return placer.Place(name, DType::kFloat64, width, width); };
  gram_.Place(placer);
  norm_.Place(placer);
  wide_rows_.Place(placer);
  if (type != DType::kFloat64) product_workspace_ = placer.Place("head.product_block", type, width, width);
  product_ = square("head.weight_product");
  solution_ = square("head.weight_solution");
  inverse_ = square("head.gram_inverse");
  workspace_ = placer.Place("head.gram_factor", DType::kFloat64, kGramFactorRows, width);
  narrow_solution_ = placer.Place("head.narrow_solution", type, width, width);
}

absl::StatusOr<Tensor> WeightGradient::Solve(const HeadView& head, const TensorRegion& region, Stream& stream) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor gram, gram_.OfRows(head, region, stream));
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = product_}, stream));
  const auto add = [&](const Tensor& rows, int64_t begin) {
    const Tensor gradient = head.gradient.RowSlice(begin, rows.rows);
    return Gram({.x = rows, .y = gradient, .c = product_, .workspace = product_workspace_}, stream);
  };
  ISTHMUS_RETURN_IF_ERROR(wide_rows_.ForBlocks(head.weight, stream, add));
  if (region.tensor().size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(region.tensor().AllReduce(product_.Reshape(1, product_.size())));
  }
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = gram, .y = solution_}, stream));
  ISTHMUS_ASSIGN_OR_RETURN(bool sound,
                           FactorGram({.gram = solution_, .inverse = inverse_, .workspace = workspace_}, stream));
  if (sound) {
    ISTHMUS_ASSIGN_OR_RETURN(const double condition, ReciprocalCondition(gram, inverse_, workspace_, stream));
    sound = condition > kLeastCondition;
  }
  if (sound) {
    // M⁻¹ = R⁻¹ R⁻ᵀ
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = inverse_, .b = product_, .c = gram, .transpose_a = true}, stream));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = inverse_, .b = gram, .c = solution_}, stream));
    return solution_;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix m, HostCopy(gram, stream));
  if (!m.allFinite()) {
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = solution_}, stream));
    return solution_;
  }
  ISTHMUS_RETURN_IF_ERROR(CopyToTensor(PseudoInverse(m), inverse_, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = inverse_, .b = product_, .c = solution_}, stream));
  return solution_;
}

absl::Status WeightGradient::Change(const HeadView& head, const KeptGradient& kept, const TensorRegion& region,
                                    Stream& stream) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor solution, Solve(head, region, stream));
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = solution, .y = narrow_solution_}, stream));
  const auto project = [&](const Tensor& rows, int64_t begin) -> absl::Status {
    const Tensor part = head.gradient.RowSlice(begin, rows.rows);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = rows, .b = narrow_solution_, .c = part}, stream));
    if (part_ == Part::kVisible) return absl::OkStatus();
    return SubtractFrom({.x = kept.rows().RowSlice(begin, rows.rows), .y = part}, stream);
  };
  ISTHMUS_RETURN_IF_ERROR(wide_rows_.ForBlocks(head.weight, stream, project));
  if (match_norm_) ISTHMUS_RETURN_IF_ERROR(norm_.OfShards(kept.rows(), head.gradient, region, stream));
  if (head.down == nullptr || part_ != Part::kLost) return absl::OkStatus();
  return SetZero({.x = head.down->gradient}, stream);
}

}  // namespace isthmus
