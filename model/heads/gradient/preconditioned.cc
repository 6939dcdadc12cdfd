// The preconditioned backward pass gives A (M + λI)⁻¹, scaled to the norm of A. The change of the logits that goes
// through the hidden states then lies along G_∥, as far as λ lets it: directions with small singular values of W count
// as much as others. λ is a share (`damping`) of M's mean eigenvalue.
#include <absl/strings/str_cat.h>

#include <cmath>

#include "model/algebra/gram_factor.h"
#include "model/algebra/host_copy.h"
#include "model/heads/gradient/matrix_backward.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class PreconditionedBackward : public MatrixBackward {
 public:
  explicit PreconditionedBackward(const HeadBackwardRequest& request)
      : MatrixBackward(request, !request.config.has_match_norm() || request.config.match_norm()),
        width_(request.setting.width),
        damping_(request.config.damping()) {}

  void Place(int64_t chunk, TensorPlacer& placer) override {
    MatrixBackward::Place(chunk, placer);
    inverse_ = placer.Place("head.backward.inverse", DType::kFloat64, width_, width_);
    workspace_ = placer.Place("head.backward.factor", DType::kFloat64, kGramFactorRows, width_);
  }

 protected:
  absl::StatusOr<bool> FindMatrix(const Tensor& gram, Stream& stream) override {
    ISTHMUS_ASSIGN_OR_RETURN(Matrix m, HostCopy(gram, stream));
    m.diagonal().array() += damping_ * m.trace() / static_cast<double>(width_);
    ISTHMUS_RETURN_IF_ERROR(CopyToTensor(m, gram, stream));
    ISTHMUS_ASSIGN_OR_RETURN(const bool definite,
                             FactorGram({.gram = gram, .inverse = inverse_, .workspace = workspace_}, stream));
    if (!definite) return false;  // W is zero or not finite
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = inverse_, .b = inverse_, .c = gram, .transpose_b = true}, stream));
    return true;
  }

 private:
  const int64_t width_;
  const double damping_;
  Tensor inverse_, workspace_;
};

std::string CheckPreconditioned(const proto::ModelConfig& model) {
  const double damping = model.head().backward().damping();
  if (damping > 0 && std::isfinite(damping)) return "";
  return absl::StrCat("model.head.backward.damping: ", damping, "; accepts numbers above 0");
}

}  // namespace

HeadBackwardKind PreconditionedBackwardKind() {
  return {.name = "preconditioned",
          .make = [](const HeadBackwardRequest& request) { return std::make_unique<PreconditionedBackward>(request); },
          .check = CheckPreconditioned};
}

}  // namespace isthmus
