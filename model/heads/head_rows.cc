#include "model/heads/head_rows.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "runtime/status.h"

namespace isthmus {

HeadRows::HeadRows(const HeadRequest& request, int64_t width)
    : setting_(request.setting), product_(setting_, width), bias_(request), scale_(request, width) {}

void HeadRows::Declare(ParameterHandle rows, ParameterBuilder& parameters) {
  parameter_ = rows;
  bias_.Declare(parameters);
  if (scale_.wanted()) scale_.Declare(parameters);
}

void HeadRows::Place(int64_t chunk, TensorPlacer& placer) {
  product_.Place(chunk, placer);
  bias_.Place(placer);
  if (scale_.wanted()) scale_.Place(placer);
}

void HeadRows::Bind(const ParameterStore& parameters, Stream& stream) {
  stream_ = &stream;
  folded_ = false;
  bias_.Bind(parameters);
  if (!scale_.wanted()) return product_.Bind(parameters, parameter_);
  scale_.Bind(parameters, {parameters.Weight(parameter_), parameters.Gradient(parameter_)});
  product_.Bind(scale_.folded().weight, scale_.folded().gradient);
}

// W is made once for all micro-batches of a step, outside of what a CUDA graph replays.
absl::Status HeadRows::BeginStep() {
  if (!scale_.wanted()) return absl::OkStatus();
  folded_ = true;
  return scale_.Fold(*stream_);
}

absl::Status HeadRows::Begin() {
  ISTHMUS_RETURN_IF_ERROR(bias_.Begin(*stream_));
  if (!scale_.wanted()) return absl::OkStatus();
  if (!folded_) ISTHMUS_RETURN_IF_ERROR(BeginStep());
  return setting_.training ? scale_.ResetGradient(*stream_) : absl::OkStatus();
}

// The next micro-batch of training may have yet other weights.
absl::Status HeadRows::BeginReading() {
  ISTHMUS_RETURN_IF_ERROR(BeginStep());
  folded_ = false;
  return absl::OkStatus();
}

absl::Status HeadRows::Forward(const Tensor& x, const Tensor& logits) const {
  ISTHMUS_RETURN_IF_ERROR(product_.Forward(x, logits, *stream_));
  return bias_.AddTo(logits, *stream_);
}

absl::Status HeadRows::Backward(const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x,
                                const Tensor& signal) const {
  ISTHMUS_RETURN_IF_ERROR(bias_.AddChunk(grad_logits, *stream_));
  return product_.Backward(grad_logits, x, grad_x, signal, *stream_);
}

absl::Status HeadRows::Finish() const {
  ISTHMUS_RETURN_IF_ERROR(bias_.Finish(*stream_));
  return scale_.wanted() ? scale_.AddGradient(*stream_) : absl::OkStatus();
}

absl::Status HeadRows::AddTo(HeadView& view) {
  if (scale_.wanted()) {
    ISTHMUS_RETURN_IF_ERROR(scale_.Fold(*stream_));
    // The gradient of U is that of all micro-batches and data ranks so far.
    if (setting_.training) ISTHMUS_RETURN_IF_ERROR(scale_.TakeGradient(*stream_));
  }
  view.rows = setting_.Share(setting_.vocabulary);
  view.weight = product_.weight();
  view.gradient = product_.gradient();
  view.bias = bias_.weight();
  return absl::OkStatus();
}

std::string CheckHeadRows(const proto::ModelConfig& config, const HeadKind& kind) {
  const proto::HeadConfig& head = config.head();
  if (head.bias() && !kind.takes_bias) {
    return absl::StrCat("model.head.bias: true; a head of kind ", kind.name,
                        " accepts false: kinds full, tied and factorised have one softmax over rows of their own");
  }
  const double exponent = head.row_scale();
  if (!(exponent >= -1 && exponent <= 1)) {
    return absl::StrCat("model.head.row_scale: ", exponent, "; accepts 0 (none) and exponents from -1 to 1");
  }
  if (exponent == 0) return "";
  const std::string found = absl::StrCat("model.head.row_scale: ", exponent, "; ");
  if (HeadShapeOf(config).in_embedding) {
    return absl::StrCat(found, "accepts 0 with tied embeddings, whose rows the look-up would need without the factors");
  }
  if (!kind.takes_row_scale) {
    return absl::StrCat(found, "a head of kind ", kind.name,
                        " accepts 0: kinds full and factorised have rows of U alone");
  }
  for (const auto& [name, changes] :
       {std::pair("orthogonality", head.orthogonality() != 0), std::pair("alignment", head.alignment() != 0),
        std::pair("weight_gradient", head.weight_gradient().kind() != "full")}) {
    if (!changes) continue;
    return absl::StrCat(found, "accepts 0 with model.head.", name,
                        ", which changes the gradient of W, and W is no parameter then");
  }
  return "";
}

}  // namespace isthmus
