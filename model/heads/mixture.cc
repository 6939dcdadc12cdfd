// The head is a mixture of K softmaxes (Yang et al. 2018, arXiv:1711.03953, eq. 3):
//
//   π = softmax(h Pᵀ),   h_k = tanh(h A_kᵀ),   p(v | h) = Σ_k π_k softmax_v(h_k · w_v)
//
// W [V, D] is cut by rows; A [K D, D] and P [K, D] are on every rank. With a token's posterior γ_k = π_k p_k(y) / p(y),
// the gradient of its loss -log p(y) is γ_k (p_k - onehot(y)) by the logits of component k, and π - γ by those of P. The
// sum of its squares over all K V logits is Σ_k γ_k² Σ_v (p_kv - [v = y])², which is what LossSums::energy has.
//
// A pass takes C / K tokens, with C = precision.loss_chunk, so that all components of a pass have C rows of logits
// together. That is the memory of a full head, whatever K is, and no component is computed twice. The ranks gather the
// statistics of all components of a pass at once. γ is a factor of rows: it goes to the D columns of h_k and of its
// gradient, rather than to the V columns of the logits' gradient.
//
// A soft cap is on the logits of all components. A z-loss is refused: the components have a normaliser each, and its
// gradient would have other factors than γ.
//
// log p is no linear function of h, and has no one matrix W: the decomposition says so. The Jacobian of a token is that
// of its own logits, those of all components and of the prior (mixture/mixture_jacobians.h).
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/heads/heads.h"
#include "model/heads/mixture/mixed_probabilities.h"
#include "model/heads/mixture/mixture_jacobians.h"
#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "ops/loss_form.h"
#include "ops/mixture_loss.h"
#include "ops/tanh.h"
#include "runtime/status.h"
#include "runtime/work_recorder.h"

namespace isthmus {
namespace {

constexpr char kMixes[] = "it mixes the probabilities of several softmaxes, so that no one matrix gives its logits";
constexpr int64_t kMostComponents = 64;

// The mean of tanh(a)² of a normal number a: ∫ tanh(a)² φ(a) da, by quadrature.
constexpr double kMeanSquareOfTanh = 0.39429449040;

class MixtureHead : public LmHead {
 public:
  explicit MixtureHead(const HeadRequest& request)
      : setting_(request.setting),
        form_(LossFormOf(request.config)),
        count_(request.config.head().mixture().count()),
        classes_(setting_.Share(setting_.vocabulary)),
        product_(setting_, setting_.width),
        parts_(static_cast<size_t>(count_)) {}

  // The final norm gives h a mean square of 1. A row of A then gives a number of deviation 1, and h_k has the mean
  // square kMeanSquareOfTanh. W is larger by the root of that, so that the logits of a component begin with the
  // variance of a full head's.
  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    const auto replicated = [&](const char* name, int64_t rows, double deviation) {
      return ParameterDeclaration{.name = name,
                                  .role = ParameterRole::kHead,
                                  .rows = rows,
                                  .columns = setting_.width,
                                  .init_std = deviation,
                                  .gradient = GradientPart::kOfShard};
    };
    down_parameters_ = parameters.AddPacked({replicated("head.component.weight", count_ * setting_.width,
                                                        1 / std::sqrt(static_cast<double>(setting_.width))),
                                             replicated("head.prior.weight", count_, setting_.init_std)});
    parameter_ = parameters.Add({.name = "head.weight",
                                 .role = ParameterRole::kHead,
                                 .rows = setting_.vocabulary,
                                 .columns = setting_.width,
                                 .sharding = Sharding::kRows,
                                 .shard = classes_,
                                 .init_std = setting_.init_std / std::sqrt(kMeanSquareOfTanh)});
  }
  int64_t LeastChunk() const override { return count_; }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    constexpr int64_t kAlignment = 64;  // elements, of rows in products
    const int64_t width = setting_.width, down = count_ * (width + 1);
    const DType type = setting_.type, sum_type = setting_.sum_type();
    pass_ = chunk / count_;
    product_.Place(chunk, placer);
    memory_.down =
        placer.Place("head.down", type, pass_, (down + kAlignment - 1) / kAlignment * kAlignment).ColumnSlice(0, down);
    memory_.prior = placer.Place("head.prior_logits", sum_type, pass_, count_);
    memory_.features = placer.Place("head.components", type, chunk, width);
    memory_.loss = placer.Place("head.mixture_loss", sum_type, 1, pass_);
    memory_.posterior = placer.Place("head.posterior", sum_type, 1, chunk);
    memory_.energy = placer.Place("head.mixture_energy", DType::kFloat64, setting_.tensor_ranks, pass_);
    if (setting_.training) memory_.grad_features = placer.Place("head.grad_components", type, chunk, width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    down_ = {parameters.Weight(down_parameters_), parameters.Gradient(down_parameters_)};
    product_.Bind(parameters, parameter_);
    jacobians_.emplace(down_.weight, product_.weight(), classes_, form_, region.tensor(), stream);
    region_ = &region;
    stream_ = &stream;
  }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    const auto train = [&](int64_t begin, int64_t tokens) -> absl::Status {
      const Tensor hidden = batch.hidden.RowSlice(begin, tokens), targets = batch.targets.ColumnSlice(begin, tokens);
      ISTHMUS_RETURN_IF_ERROR(AddLoss(hidden, targets, batch.scale, /*gradient=*/true, loss));
      return PassBack(hidden, batch.scale, batch.grad_hidden.RowSlice(begin, tokens), loss);
    };
    ISTHMUS_RETURN_IF_ERROR(ForPasses(batch.hidden.rows, train));
    return region_->Leave(batch.grad_hidden, region_->LocalPart(batch.grad_hidden));
  }
  bool takes_future(int64_t /*step*/) const override { return false; }
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss) override {
    return ForPasses(hidden.rows, [&](int64_t begin, int64_t tokens) {
      return AddLoss(hidden.RowSlice(begin, tokens), targets.ColumnSlice(begin, tokens), 1, /*gradient=*/false, loss);
    });
  }

  absl::Status Begin(const Tensor& /*hidden*/) override { return absl::OkStatus(); }
  // Computes log p(v | h), whose log-sum-exp is 0. The host does all but the products.
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return ForPasses(logits.rows, [&](int64_t first, int64_t tokens) {
      return LogProbabilities(hidden.RowSlice(begin + first, tokens), logits.RowSlice(first, tokens));
    });
  }

  bool log_probabilities() const override { return true; }

  absl::StatusOr<HeadView> View() override {
    return HeadView{.not_linear = kMixes, .jacobians = jacobians_.has_value() ? &*jacobians_ : nullptr};
  }
  ParameterHandle parameter() const override { return parameter_; }
  double ForwardFlopsPerToken() const override {
    return 2 * static_cast<double>(count_ * setting_.width * (setting_.vocabulary + setting_.width + 1));
  }

 private:
  // A pass of n tokens uses the first rows. Those of component k begin at row k n.
  struct Memory {
    Tensor down;           // [C/K, K (D + 1)]: h Aᵀ, then its gradient, and beside it that of the prior's logits
    Tensor prior;          // [C/K, K] h Pᵀ, accumulation type
    Tensor features;       // [C, D] h_k, then γ_k h_k
    Tensor grad_features;  // [C, D], without the factor γ_k
    Tensor loss, posterior, energy;
  };

  template <typename Visit>
  absl::Status ForPasses(int64_t tokens, const Visit& visit) const {
    return ForEachAlike(*stream_, (tokens + pass_ - 1) / pass_, [&](int64_t i) {
      const int64_t begin = i * pass_;
      return visit(begin, std::min(pass_, tokens - begin));
    });
  }
  // The parts of A above P in their packed matrix.
  Linear Components() const {
    const int64_t rows = count_ * setting_.width;
    return {down_.weight.RowSlice(0, rows), Tensor()};
  }
  Linear Prior() const { return {down_.weight.RowSlice(count_ * setting_.width, count_), Tensor()}; }
  // The columns of component k, of n tokens.
  Tensor Down(int64_t k, int64_t tokens) const {
    return memory_.down.RowSlice(0, tokens).ColumnSlice(k * setting_.width, setting_.width);
  }

  // Computes prior logits and components of the tokens.
  absl::Status Mix(const Tensor& hidden) {
    const int64_t tokens = hidden.rows;
    const Tensor down = memory_.down.RowSlice(0, tokens).ColumnSlice(0, count_ * setting_.width);
    ISTHMUS_RETURN_IF_ERROR(Prior().Forward(hidden, memory_.prior.RowSlice(0, tokens), *stream_));
    ISTHMUS_RETURN_IF_ERROR(Components().Forward(hidden, down, *stream_));
    for (int64_t k = 0; k < count_; ++k) {
      ISTHMUS_RETURN_IF_ERROR(
          TanhForward({.x = Down(k, tokens), .y = memory_.features.RowSlice(k * tokens, tokens)}, *stream_));
    }
    return absl::OkStatus();
  }

  // Adds the loss of a pass to the sums. With `gradient` it leaves that of the prior's logits.
  absl::Status AddLoss(const Tensor& hidden, const Tensor& targets, double scale, bool gradient, SoftmaxLoss& loss) {
    const int64_t tokens = hidden.rows;
    ISTHMUS_RETURN_IF_ERROR(Mix(hidden));
    const Tensor features = memory_.features.RowSlice(0, count_ * tokens);
    ISTHMUS_RETURN_IF_ERROR(product_.Forward(features, loss.Logits(features.rows, classes_.size()), *stream_));
    for (int64_t k = 0; k < count_; ++k) {
      parts_[static_cast<size_t>(k)] = {.logits = loss.Logits(tokens, classes_.size(), k * tokens),
                                        .targets = targets,
                                        .first_class = classes_.begin};
    }
    ISTHMUS_ASSIGN_OR_RETURN(const SoftmaxTokens components, loss.Compare(parts_));
    const Tensor mixed = memory_.loss.ColumnSlice(0, tokens), energy = memory_.energy.ColumnSlice(0, tokens);
    Tensor grad_prior;
    if (gradient) grad_prior = memory_.down.RowSlice(0, tokens).ColumnSlice(count_ * setting_.width, count_);
    // Every rank has this gradient whole. One of them adds it, because the sums over the shards add all up.
    ISTHMUS_RETURN_IF_ERROR(MixtureLoss({.prior_logits = memory_.prior.RowSlice(0, tokens),
                                         .component_loss = components.loss,
                                         .component_energy = components.energy,
                                         .scale = setting_.tensor_rank == 0 ? scale : 0,
                                         .loss = mixed,
                                         .posterior = memory_.posterior.ColumnSlice(0, features.rows),
                                         .energy = energy,
                                         .grad_prior = grad_prior},
                                        *stream_));
    return loss.AddToSums({.loss = mixed, .energy = energy, .log_sum_exp = Tensor()});
  }

  // Adds the gradients of the parameters, and makes this shard's part of that of `hidden`.
  absl::Status PassBack(const Tensor& hidden, double scale, const Tensor& grad_hidden, SoftmaxLoss& loss) {
    const int64_t tokens = hidden.rows;
    const Tensor features = memory_.features.RowSlice(0, count_ * tokens);
    const Tensor grad_features = memory_.grad_features.RowSlice(0, features.rows);
    Tensor grad_logits;
    for (int64_t k = 0; k < count_; ++k) {
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor part,
                               loss.Gradient(parts_[static_cast<size_t>(k)], scale, nullptr, k * tokens));
      if (k == 0) grad_logits = part;
    }
    // The parts follow one another.
    grad_logits.rows = features.rows;
    ISTHMUS_RETURN_IF_ERROR(product_.BackwardInput(grad_logits, grad_features, Tensor(), *stream_));
    for (int64_t k = 0; k < count_; ++k) {
      ISTHMUS_RETURN_IF_ERROR(TanhBackward({.grad_y = grad_features.RowSlice(k * tokens, tokens),
                                            .y = features.RowSlice(k * tokens, tokens),
                                            .factors = memory_.posterior.ColumnSlice(k * tokens, tokens),
                                            .grad_x = Down(k, tokens)},
                                           *stream_));
    }
    const Linear rows = {product_.weight(), product_.gradient()};
    ISTHMUS_RETURN_IF_ERROR(rows.BackwardWeight(grad_logits, features, *stream_));
    const Tensor down = memory_.down.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(down_.BackwardInput(down, grad_hidden, *stream_));
    return down_.BackwardWeight(down, hidden, *stream_);
  }

  // A component's logits lie in the memory of the result until the host has them.
  absl::Status LogProbabilities(const Tensor& hidden, const Tensor& logits) {
    const int64_t tokens = hidden.rows;
    ISTHMUS_RETURN_IF_ERROR(Mix(hidden));
    std::optional<MixedProbabilities> mixed;
    if (!stream_->dry()) {
      ISTHMUS_ASSIGN_OR_RETURN(const Matrix prior, HostCopy(memory_.prior.RowSlice(0, tokens), *stream_));
      mixed.emplace(prior);
    }
    Matrix found(tokens, logits.columns);
    for (int64_t k = 0; k < count_; ++k) {
      ISTHMUS_RETURN_IF_ERROR(product_.Forward(memory_.features.RowSlice(k * tokens, tokens), logits, *stream_));
      if (!mixed.has_value()) continue;
      for (int64_t n = 0; n < tokens; ++n) {
        ISTHMUS_ASSIGN_OR_RETURN(found.row(n), HostCopy(logits.RowSlice(n, 1), *stream_));
      }
      if (form_.capped()) found = found.unaryExpr([&](double logit) { return form_.Capped(logit); }).eval();
      ISTHMUS_RETURN_IF_ERROR(mixed->Add(k, found, region_->tensor()));
    }
    for (int64_t n = 0; n < tokens && mixed.has_value(); ++n) {
      ISTHMUS_RETURN_IF_ERROR(CopyToTensor(mixed->logs().row(n), logits.RowSlice(n, 1), *stream_));
    }
    return absl::OkStatus();
  }

  const PartSetting& setting_;
  const LossForm form_;
  const int64_t count_;        // K
  const Range classes_;        // the vocabulary rows of this rank
  int64_t pass_ = 0;           // C / K
  VocabularyProduct product_;  // with W
  Linear down_;                // A above P
  ParameterHandle parameter_, down_parameters_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Memory memory_;
  std::vector<SoftmaxChunk> parts_;  // of the last pass, by component
  std::optional<MixtureJacobians> jacobians_;
};

std::string CheckMixture(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind mixture accepts 0");
  }
  if (config.tied_embeddings()) return "model.tied_embeddings: true; a head of kind mixture accepts false";
  if (const double weight = config.head().z_loss(); weight != 0) {
    return absl::StrCat("model.head.z_loss: ", weight,
                        "; a head of kind mixture accepts 0: its softmaxes have a normaliser each");
  }
  const int64_t count = config.head().mixture().count();
  if (count >= 1 && count <= kMostComponents) return "";
  return absl::StrCat("model.head.mixture.count: ", count, "; accepts 1 to ", kMostComponents);
}

}  // namespace

HeadKind MixtureHeadKind() {
  return {.name = "mixture",
          .make = [](const HeadRequest& request) { return std::make_unique<MixtureHead>(request); },
          .title =
              [](const proto::ModelConfig& config) {
                return absl::StrCat("mixture of ", config.head().mixture().count(), " softmaxes");
              },
          .check = CheckMixture};
}

}  // namespace isthmus
