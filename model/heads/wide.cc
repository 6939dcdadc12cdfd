// The wide head expands the hidden state before the product with the vocabulary's rows, by a network with a gate
// (Shazeer 2020, arXiv:2002.05202, eq. 6):
//
//   f = silu(h E_gᵀ) ∘ (h E_uᵀ),   logits = f Uᵀ     E_g, E_u [m D, D], U [V, m D], with m = model.head.expansion
//
// U is cut by rows; E_g and E_u are on every rank. A chunk of tokens expands in Logits and goes back in Backward. No
// memory therefore grows with the tokens of a micro-batch. A shard passes its part of the gradient of f through the
// expansion, which is linear in it. So only the sums [N, D] cross the tensor ranks.
//
// The gradient of f, G U, has m D columns. What reaches the hidden state of token n is J_nᵀ of it, with the Jacobian
// J_n = diag(silu'(a) ∘ b) E_g + diag(silu(a)) E_u, where a = E_g h and b = E_u h are the token's own. Its logits move
// in the D columns of U J_n, which differ from token to token. There is no one matrix W, and the decomposition says so.
// The shares of single tokens' gradients (token_jacobians.h) take U J_n for each.
#include <absl/strings/str_cat.h>

#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/token_jacobians.h"
#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "ops/loss_form.h"
#include "ops/swiglu.h"
#include "parallel/shard.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kExpands[] = "it expands each hidden state by a gate of its own, so that no one matrix gives its logits";
constexpr int64_t kMostExpansion = 64;

// The mean of (silu(a) b)² of independent normal numbers a and b: ∫ silu(a)² φ(a) da, by quadrature.
constexpr double kMeanSquare = 0.35577551982;

double SigmoidOf(double x) { return 1 / (1 + std::exp(-x)); }
double SiluOf(double x) { return x * SigmoidOf(x); }
double SiluSlopeOf(double x) { return SigmoidOf(x) * (1 + x * (1 - SigmoidOf(x))); }

class WideJacobians : public TokenJacobians {
 public:
  // Takes E_g above E_u, and U of this rank's `rows`. `tensor` and `stream` must outlive this object.
  WideJacobians(const Linear& expansion, const Tensor& weight, Range rows, const LossForm& form, Communicator& tensor,
                const Stream& stream)
      : expansion_(expansion), weight_(weight), rows_(rows), form_(form), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix expansion, HostCopy(expansion_.weight, stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix weight, HostCopy(weight_, stream_));
    const Eigen::Index features = weight.cols();
    for (Eigen::Index n = 0; n < tokens.hidden.rows(); ++n) {
      const Eigen::VectorXd gate_up = expansion * tokens.hidden.row(n).transpose();
      const auto gate = gate_up.head(features), up = gate_up.tail(features);
      const Eigen::VectorXd silu = gate.unaryExpr(&SiluOf), slope = gate.unaryExpr(&SiluSlopeOf);
      const Matrix jacobian = slope.cwiseProduct(up).asDiagonal() * expansion.topRows(features) +
                              silu.asDiagonal() * expansion.bottomRows(features);
      ISTHMUS_ASSIGN_OR_RETURN(
          TokenJacobian token,
          SoftmaxJacobian(std::make_shared<const Matrix>(weight * jacobian), weight * silu.cwiseProduct(up),
                          tokens.targets[static_cast<size_t>(n)] - rows_.begin, form_, tensor_));
      ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
    }
    return absl::OkStatus();
  }

 private:
  const Linear expansion_;
  const Tensor weight_;
  const Range rows_;
  const LossForm form_;
  Communicator& tensor_;
  const Stream& stream_;
};

class WideHead : public LmHead {
 public:
  explicit WideHead(const HeadRequest& request)
      : setting_(request.setting),
        form_(LossFormOf(request.config)),
        features_(request.config.head().expansion() * setting_.width),
        product_(setting_, features_) {}

  // The final norm gives h a mean square of 1, so that a and b begin with the deviation 1, and f with the mean square
  // kMeanSquare. The logits' variance is m D kMeanSquare times U's. That of a full head is D init_std², so U has the
  // deviation init_std / √(m kMeanSquare).
  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    const auto width = static_cast<double>(setting_.width), features = static_cast<double>(features_);
    const auto expansion = [&](const char* name) {
      return ParameterDeclaration{.name = name,
                                  .role = ParameterRole::kHead,
                                  .rows = features_,
                                  .columns = setting_.width,
                                  .init_std = 1 / std::sqrt(width),
                                  .gradient = GradientPart::kOfShard};
    };
    expansion_parameters_ =
        parameters.AddPacked({expansion("head.gate_proj.weight"), expansion("head.up_proj.weight")});
    parameter_ = parameters.Add({.name = "head.weight",
                                 .role = ParameterRole::kHead,
                                 .rows = setting_.vocabulary,
                                 .columns = features_,
                                 .sharding = Sharding::kRows,
                                 .shard = setting_.Share(setting_.vocabulary),
                                 .init_std = setting_.init_std * std::sqrt(width / (features * kMeanSquare))});
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    product_.Place(chunk, placer);
    gate_up_ = placer.Place("head.gate_up", setting_.type, chunk, 2 * features_);
    expanded_ = placer.Place("head.expanded", setting_.type, chunk, features_);
    if (setting_.training) grad_expanded_ = placer.Place("head.grad_expanded", setting_.type, chunk, features_);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    expansion_ = {parameters.Weight(expansion_parameters_), parameters.Gradient(expansion_parameters_)};
    product_.Bind(parameters, parameter_);
    jacobians_.emplace(expansion_, product_.weight(), setting_.Share(setting_.vocabulary), form_, region.tensor(),
                       stream);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status Begin(const Tensor& /*hidden*/) override { return absl::OkStatus(); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    const int64_t tokens = logits.rows;
    const Tensor gate_up = gate_up_.RowSlice(0, tokens), expanded = expanded_.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(expansion_.Forward(hidden.RowSlice(begin, tokens), gate_up, *stream_));
    ISTHMUS_RETURN_IF_ERROR(SwigluForward({.gate_up = gate_up, .y = expanded}, *stream_));
    return product_.Forward(expanded, logits, *stream_);
  }
  // The chunk is the one of the last Logits.
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& /*signal*/) override {
    const int64_t tokens = grad_logits.rows;
    const Tensor gate_up = gate_up_.RowSlice(0, tokens), grad = grad_expanded_.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(product_.Backward(grad_logits, expanded_.RowSlice(0, tokens), grad, Tensor(), *stream_));
    ISTHMUS_RETURN_IF_ERROR(SwigluBackward({.grad_y = grad, .gate_up = gate_up, .grad_gate_up = gate_up}, *stream_));
    ISTHMUS_RETURN_IF_ERROR(expansion_.BackwardInput(gate_up, grad_hidden.RowSlice(begin, tokens), *stream_));
    return expansion_.BackwardWeight(gate_up, hidden.RowSlice(begin, tokens), *stream_);
  }
  absl::Status Finish(const Tensor& /*hidden*/, const Tensor& grad_hidden) override {
    return region_->Leave(grad_hidden, region_->LocalPart(grad_hidden));
  }

  absl::StatusOr<HeadView> View() override {
    return HeadView{.not_linear = kExpands, .jacobians = jacobians_.has_value() ? &*jacobians_ : nullptr};
  }
  ParameterHandle parameter() const override { return parameter_; }
  double ForwardFlopsPerToken() const override {
    return 2 * static_cast<double>(features_ * (setting_.vocabulary + 2 * setting_.width));
  }

 private:
  const PartSetting& setting_;
  const LossForm form_;
  const int64_t features_;     // m D
  VocabularyProduct product_;  // with U
  Linear expansion_;           // E_g above E_u
  ParameterHandle parameter_, expansion_parameters_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Tensor gate_up_;                   // of a chunk: [C, 2 m D] a and b, then their gradients
  Tensor expanded_, grad_expanded_;  // [C, m D] f
  std::optional<WideJacobians> jacobians_;
};

std::string CheckWide(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind wide accepts 0");
  }
  if (config.tied_embeddings()) {
    return "model.tied_embeddings: true; a head of kind wide has wider rows than the embedding table; set false";
  }
  const int64_t expansion = config.head().expansion();
  if (expansion >= 1 && expansion <= kMostExpansion) return "";
  return absl::StrCat("model.head.expansion: ", expansion, "; accepts 1 to ", kMostExpansion);
}

}  // namespace

HeadKind WideHeadKind() {
  return {.name = "wide",
          .make = [](const HeadRequest& request) { return std::make_unique<WideHead>(request); },
          .title =
              [](const proto::ModelConfig& config) {
                return absl::StrCat("head expanded ", config.head().expansion(), "-fold");
              },
          .check = CheckWide};
}

}  // namespace isthmus
