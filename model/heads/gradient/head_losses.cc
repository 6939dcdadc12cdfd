#include "model/heads/gradient/head_losses.h"

#include <absl/strings/str_cat.h>

#include <cmath>
#include <utility>

#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {

HeadLosses::HeadLosses(const proto::HeadConfig& config, const HeadShape& shape, const PartSetting& setting)
    : shape_(shape),
      setting_(setting),
      orthogonality_(config.orthogonality(), shape),
      alignment_(config.alignment(), shape, setting),
      matrices_(shape, setting),
      wide_rows_(setting, shape.width) {}

void HeadLosses::Place(int64_t chunk, TensorPlacer& placer) {
  const int64_t width = shape_.width;
  const DType type = setting_.sum_type();
  if (orthogonality_.wanted()) orthogonality_.Place(placer);
  if (alignment_.wanted()) alignment_.Place(chunk, placer);
  matrices_.Place(placer);
  wide_rows_.Place(placer);
  terms_.rows = placer.Place("head.losses.rows_term", DType::kFloat64, width, width);
  narrow_rows_term_ = placer.Place("head.losses.narrow_term", type, width, width);
  if (!shape_.has_down) return;
  terms_.down = placer.Place("head.losses.down_term", DType::kFloat64, width, width);
  down_gradient_ = placer.Place("head.losses.down_gradient", DType::kFloat64, width, setting_.width);
  narrow_down_ = placer.Place("head.losses.narrow_down", type, width, setting_.width);
}

absl::Status HeadLosses::BeginStep(Stream& stream) const {
  return alignment_.wanted() ? alignment_.BeginStep(stream) : absl::OkStatus();
}

Tensor HeadLosses::Signal(const Tensor& signal, int64_t tokens) const {
  return signal.defined() || !alignment_.wanted() ? signal : alignment_.Signal(tokens);
}

absl::Status HeadLosses::AddChunk(const Tensor& grad_logits, const Tensor& signal, const TensorRegion& region,
                                  Stream& stream) const {
  return alignment_.wanted() ? alignment_.AddChunk(grad_logits, signal, region, stream) : absl::OkStatus();
}

absl::Status HeadLosses::AddGradients(const HeadView& head, double energy, const TensorRegion& region, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(matrices_.Find(head, region, stream));
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = terms_.rows}, stream));
  if (shape_.has_down) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = terms_.down}, stream));
  if (orthogonality_.wanted()) {
    ISTHMUS_ASSIGN_OR_RETURN(values_.orthogonality, orthogonality_.AddTerms(matrices_, terms_, stream));
  }
  if (alignment_.wanted()) {
    ISTHMUS_ASSIGN_OR_RETURN(values_.alignment,
                             alignment_.AddGradient(head, matrices_, energy, terms_, region, stream));
  }
  return AddTerms(head, stream);
}

absl::Status HeadLosses::AddTerms(const HeadView& head, Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = terms_.rows, .y = narrow_rows_term_}, stream));
  const auto add = [&](const Tensor& rows, int64_t begin) {
    const Tensor gradient = head.gradient.RowSlice(begin, rows.rows);
    return Matmul({.a = rows, .b = narrow_rows_term_, .c = gradient, .accumulate = true}, stream);
  };
  ISTHMUS_RETURN_IF_ERROR(wide_rows_.ForBlocks(head.weight, stream, add));
  if (!shape_.has_down) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = terms_.down, .b = matrices_.down(), .c = down_gradient_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = down_gradient_, .y = narrow_down_}, stream));
  return Add({.x = narrow_down_, .y = head.down->gradient}, stream);
}

std::string CheckHeadLosses(const proto::HeadConfig& config) {
  for (const auto& [field, weight] :
       {std::pair("orthogonality", config.orthogonality()), std::pair("alignment", config.alignment())}) {
    if (weight >= 0 && std::isfinite(weight)) continue;
    return absl::StrCat("model.head.", field, ": ", weight, "; accepts 0 (off) and finite numbers above");
  }
  return "";
}

}  // namespace isthmus
