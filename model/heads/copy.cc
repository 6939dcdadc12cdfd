// The copying head gives one extra slot beside the vocabulary's rows, whose mass goes to attention over the tokens of
// the sequence so far (Merity et al. 2016, arXiv:1609.07843; See et al. 2017, arXiv:1704.04368). With one query and one
// key for each token, and a score s_0 of a sink that is learned,
//
//   z_v = h · w_v,   p = softmax(z),   σ = sigmoid(h · w_s - log Σ_v exp(z_v))
//   s_nj = (Q h_n) · (K h_j) / √d,   a_n = softmax(s_0, s_nj of all j <= n)
//   P_n(v) = p_v (1 - σ (1 - a_n0)) + σ Σ_j a_nj [x_j = v]
//
// x_j is the token that went into the model at position j, so that the token itself may be copied, too. The sink's mass
// goes back to the vocabulary. Documents are not kept apart within a sequence, as by the attention of the blocks.
//
// W [V, D] is cut by rows. Q and K [d, D], w_s [1, D] and s_0 are on every rank, with d = model.head.copy_width. Every
// tensor rank computes the whole attention of all tokens, so that the gradients of these need no reduction. A chunk of
// tokens costs the packed all-gather of a softmax. The gradients of all chunks then go through the attention at once.
// Memory grows with N d, and never with N V.
//
// The gradient of the hidden states comes through W, and past it: by w_s and Q to the token itself, and by K to all
// tokens that it points at. The Jacobian of a token's own state, ∂ log P_n / ∂h_n, has the rows (1 - c_v) (w_v - w̄) with
// w̄ = Σ_u p_u w_u and c_v the share of P_n(v) that was copied. It has more directions besides: w_s - w̄, by σ, and those
// of the scores. They differ from token to token, so that there is no one matrix W, and the decomposition says so. The
// shares of single tokens' gradients take each token's own (pointer/pointer_jacobians.h).
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/pointer/pointed_probabilities.h"
#include "model/heads/pointer/pointer_jacobians.h"
#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "ops/elementwise.h"
#include "ops/loss_form.h"
#include "ops/pointer_attention.h"
#include "ops/pointer_loss.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kCopies[] =
    "its probabilities mix a softmax with attention over earlier tokens, so that no one matrix gives its logits";
constexpr int64_t kMostCopyWidth = 256;

class CopyHead : public LmHead {
 public:
  explicit CopyHead(const HeadRequest& request)
      : setting_(request.setting),
        form_(LossFormOf(request.config)),
        width_(request.config.head().copy_width()),
        classes_(setting_.Share(setting_.vocabulary)),
        product_(setting_, setting_.width) {}

  // At the beginning the slot is one class among V + 1, so that a run begins near the full head.
  void Declare(ParameterHandle /*embedding*/, ParameterBuilder& parameters) override {
    const auto replicated = [&](const char* name, int64_t rows) {
      return ParameterDeclaration{.name = name,
                                  .role = ParameterRole::kHead,
                                  .rows = rows,
                                  .columns = setting_.width,
                                  .init_std = setting_.init_std};
    };
    down_parameters_ = parameters.AddPacked({replicated("head.query.weight", width_),
                                             replicated("head.key.weight", width_), replicated("head.slot.weight", 1)});
    sink_parameter_ =
        parameters.Add({.name = "head.sink", .role = ParameterRole::kHead, .rows = 1, .columns = 1, .decay = false});
    parameter_ = parameters.Add({.name = "head.weight",
                                 .role = ParameterRole::kHead,
                                 .rows = setting_.vocabulary,
                                 .columns = setting_.width,
                                 .sharding = Sharding::kRows,
                                 .shard = classes_,
                                 .init_std = setting_.init_std});
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    const int64_t tokens = setting_.batch.tokens();
    const DType type = setting_.type, sum_type = setting_.sum_type();
    product_.Place(chunk, placer);
    memory_.projected = placer.Place("head.pointer_projected", type, tokens, 2 * width_);
    memory_.slot = placer.Place("head.pointer_slot", sum_type, tokens, 1);
    memory_.log_sum_exp = placer.Place("head.pointer_log_sum_exp", sum_type, 1, tokens);
    memory_.log_match = placer.Place("head.pointer_log_match", sum_type, 1, tokens);
    memory_.loss = placer.Place("head.pointer_loss", sum_type, 1, chunk);
    if (!setting_.training) return;
    memory_.target_weight = placer.Place("head.pointer_target_weight", sum_type, 1, chunk);
    memory_.excess_weight = placer.Place("head.pointer_excess_weight", sum_type, 1, chunk);
    memory_.grad_log_match = placer.Place("head.pointer_grad_match", sum_type, 1, tokens);
    memory_.grad_log_sink = placer.Place("head.pointer_grad_sink", sum_type, 1, tokens);
    memory_.grad_projected = placer.Place("head.pointer_grad_projected", type, tokens, Padded(2 * width_ + 1));
    memory_.grad_hidden = placer.Place("head.pointer_grad_hidden", type, chunk, setting_.width);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    down_ = {parameters.Weight(down_parameters_), parameters.Gradient(down_parameters_)};
    sink_ = {parameters.Weight(sink_parameter_), parameters.Gradient(sink_parameter_)};
    product_.Bind(parameters, parameter_);
    jacobians_.emplace(PointerHead{.weight = product_.weight(),
                                   .rows = classes_,
                                   .down = down_.weight,
                                   .sink = sink_.weight,
                                   .form = form_,
                                   .sequence_length = setting_.batch.sequence_length},
                       ids_, region.tensor(), stream);
    region_ = &region;
    stream_ = &stream;
  }

  bool reads_inputs() const override { return true; }
  void TakeInputs(const Tensor& ids) override { ids_ = ids; }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    ids_ = batch.ids;
    ISTHMUS_RETURN_IF_ERROR(Begin(batch.hidden));
    ISTHMUS_RETURN_IF_ERROR(Attend(batch.targets));
    ISTHMUS_RETURN_IF_ERROR(loss.ForChunks(batch.hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
      ISTHMUS_ASSIGN_OR_RETURN(const SoftmaxChunk chunk,
                               AddLoss(batch.hidden, batch.targets, {begin, begin + tokens}, &batch, loss));
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor gradient,
                               loss.Gradient(chunk, batch.scale, nullptr, 0,
                                             {.target = memory_.target_weight.ColumnSlice(0, tokens),
                                              .excess = memory_.excess_weight.ColumnSlice(0, tokens)}));
      return product_.Backward(gradient, batch.hidden.RowSlice(begin, tokens),
                               batch.grad_hidden.RowSlice(begin, tokens), Tensor(), *stream_);
    }));
    return PassBack(batch, loss);
  }
  bool takes_future(int64_t /*step*/) const override { return false; }
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss) override {
    ISTHMUS_RETURN_IF_ERROR(BeginReading(hidden));
    ISTHMUS_RETURN_IF_ERROR(Attend(targets));
    return loss.ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) {
      return AddLoss(hidden, targets, {begin, begin + tokens}, nullptr, loss).status();
    });
  }

  // Computes queries, keys and the slot's logits.
  absl::Status Begin(const Tensor& hidden) override {
    const int64_t tokens = hidden.rows;
    if (ids_.columns != tokens || tokens % setting_.batch.sequence_length != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a head of kind copy reads the tokens that went into the model, of whole sequences of ",
                       setting_.batch.sequence_length, "; found ", ids_.columns, " for ", tokens, " hidden states"));
    }
    const Linear pairs = {down_.weight.RowSlice(0, 2 * width_), Tensor()};
    const Linear slot = {down_.weight.RowSlice(2 * width_, 1), Tensor()};
    ISTHMUS_RETURN_IF_ERROR(pairs.Forward(hidden, memory_.projected.RowSlice(0, tokens), *stream_));
    return slot.Forward(hidden, memory_.slot.RowSlice(0, tokens), *stream_);
  }
  // Computes log P(v), whose log-sum-exp is 0. The host does all but the products.
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    ISTHMUS_RETURN_IF_ERROR(product_.Forward(hidden.RowSlice(begin, logits.rows), logits, *stream_));
    for (int64_t n = 0; n < logits.rows && !stream_->dry(); ++n) {
      ISTHMUS_ASSIGN_OR_RETURN(const PointedTokens pointed, PointedBy(begin + n));
      ISTHMUS_ASSIGN_OR_RETURN(Matrix found, HostCopy(logits.RowSlice(n, 1), *stream_));
      if (form_.capped()) found = found.unaryExpr([&](double logit) { return form_.Capped(logit); }).eval();
      ISTHMUS_RETURN_IF_ERROR(ToLogProbabilities(pointed, classes_, found.row(0), region_->tensor()));
      ISTHMUS_RETURN_IF_ERROR(CopyToTensor(found, logits.RowSlice(n, 1), *stream_));
    }
    return absl::OkStatus();
  }
  bool log_probabilities() const override { return true; }

  absl::StatusOr<HeadView> View() override {
    return HeadView{.not_linear = kCopies, .jacobians = jacobians_.has_value() ? &*jacobians_ : nullptr};
  }
  ParameterHandle parameter() const override { return parameter_; }
  // The causal mask leaves half of the pairs.
  double ForwardFlopsPerToken() const override {
    return static_cast<double>(2 * setting_.width * (setting_.vocabulary + 2 * width_ + 1) +
                               setting_.batch.sequence_length * width_);
  }

 private:
  struct Memory {
    Tensor projected;       // [N, 2 d] queries beside keys
    Tensor slot;            // [N, 1] accumulation type
    Tensor grad_projected;  // [N, 2 d + 1 and padding] their gradients, and the slot's beside them
    Tensor grad_hidden;     // [C, D] of a chunk, through them
    // [1, N] of all tokens and [1, C] of a chunk, accumulation type (ops/pointer_loss.h).
    Tensor log_sum_exp, log_match, grad_log_match, grad_log_sink;
    Tensor loss, target_weight, excess_weight;
  };

  // Rows of products begin at aligned addresses.
  static int64_t Padded(int64_t columns) {
    constexpr int64_t kAlignment = 64;
    return (columns + kAlignment - 1) / kAlignment * kAlignment;
  }
  double Scale() const { return 1 / std::sqrt(static_cast<double>(width_)); }
  Tensor Queries(int64_t tokens) const { return memory_.projected.RowSlice(0, tokens).ColumnSlice(0, width_); }
  Tensor Keys(int64_t tokens) const { return memory_.projected.RowSlice(0, tokens).ColumnSlice(width_, width_); }
  Tensor GradProjected(int64_t tokens) const {
    return memory_.grad_projected.RowSlice(0, tokens).ColumnSlice(0, 2 * width_ + 1);
  }

  absl::Status Attend(const Tensor& targets) {
    const int64_t tokens = targets.columns;
    return PointerAttentionForward({.sequence_length = setting_.batch.sequence_length,
                                    .scale = Scale(),
                                    .q = Queries(tokens),
                                    .k = Keys(tokens),
                                    .sink = sink_.weight,
                                    .ids = ids_,
                                    .targets = targets,
                                    .log_sum_exp = memory_.log_sum_exp.ColumnSlice(0, tokens),
                                    .log_match = memory_.log_match.ColumnSlice(0, tokens)},
                                   *stream_);
  }

  // Adds the loss of a chunk to the sums. With `batch` it leaves the weights of the logits' gradient, and the gradients
  // of what the attention gave.
  absl::StatusOr<SoftmaxChunk> AddLoss(const Tensor& hidden, const Tensor& targets, Range tokens,
                                       const HeadBatch* batch, SoftmaxLoss& loss) {
    const int64_t begin = tokens.begin, count = tokens.size();
    const SoftmaxChunk chunk = {.logits = loss.Logits(count, classes_.size()),
                                .targets = targets.ColumnSlice(begin, count),
                                .first_class = classes_.begin};
    ISTHMUS_RETURN_IF_ERROR(product_.Forward(hidden.RowSlice(begin, count), chunk.logits, *stream_));
    ISTHMUS_ASSIGN_OR_RETURN(SoftmaxTokens compared, loss.Compare(absl::MakeConstSpan(&chunk, 1)));
    PointerLossArgs args = {.vocabulary_loss = compared.loss,
                            .log_sum_exp = compared.log_sum_exp,
                            .pointer_log_sum_exp = memory_.log_sum_exp.ColumnSlice(begin, count),
                            .log_match = memory_.log_match.ColumnSlice(begin, count),
                            .slot = memory_.slot.RowSlice(begin, count),
                            .sink = sink_.weight,
                            .loss = memory_.loss.ColumnSlice(0, count)};
    if (batch != nullptr) {
      args.scale = batch->scale;
      args.target_weight = memory_.target_weight.ColumnSlice(0, count);
      args.excess_weight = memory_.excess_weight.ColumnSlice(0, count);
      args.grad_log_match = memory_.grad_log_match.ColumnSlice(begin, count);
      args.grad_log_sink = memory_.grad_log_sink.ColumnSlice(begin, count);
      args.grad_slot = memory_.grad_projected.RowSlice(begin, count).ColumnSlice(2 * width_, 1);
    }
    ISTHMUS_RETURN_IF_ERROR(PointerLoss(args, *stream_));
    // Only the decomposition of a head with one matrix W reads energies.
    compared.loss = args.loss;
    compared.energy = Tensor();
    ISTHMUS_RETURN_IF_ERROR(loss.AddToSums(compared));
    return chunk;
  }

  // Adds the gradients of Q, K, w_s and s_0, and completes that of the hidden states. Every tensor rank has the whole of
  // these, and adds the part of its own tokens after the sum over the shards.
  absl::Status PassBack(const HeadBatch& batch, SoftmaxLoss& loss) {
    const int64_t tokens = batch.hidden.rows;
    const Tensor gradient = GradProjected(tokens);
    ISTHMUS_RETURN_IF_ERROR(PointerAttentionBackward({.sequence_length = setting_.batch.sequence_length,
                                                      .scale = Scale(),
                                                      .q = Queries(tokens),
                                                      .k = Keys(tokens),
                                                      .sink = sink_.weight,
                                                      .ids = ids_,
                                                      .targets = batch.targets,
                                                      .log_sum_exp = memory_.log_sum_exp.ColumnSlice(0, tokens),
                                                      .log_match = memory_.log_match.ColumnSlice(0, tokens),
                                                      .grad_log_match = memory_.grad_log_match.ColumnSlice(0, tokens),
                                                      .grad_log_sink = memory_.grad_log_sink.ColumnSlice(0, tokens),
                                                      .grad_q = gradient.ColumnSlice(0, width_),
                                                      .grad_k = gradient.ColumnSlice(width_, width_),
                                                      .grad_sink = sink_.gradient},
                                                     *stream_));
    ISTHMUS_RETURN_IF_ERROR(down_.BackwardWeight(gradient, batch.hidden, *stream_));
    const Tensor local = region_->LocalPart(batch.grad_hidden), local_gradient = region_->LocalPart(gradient);
    ISTHMUS_RETURN_IF_ERROR(region_->Leave(batch.grad_hidden, local));
    return loss.ForChunks(local.rows, [&](int64_t begin, int64_t count) -> absl::Status {
      const Tensor part = memory_.grad_hidden.RowSlice(0, count);
      ISTHMUS_RETURN_IF_ERROR(down_.BackwardInput(local_gradient.RowSlice(begin, count), part, *stream_));
      return Add({.x = part, .y = local.RowSlice(begin, count)}, *stream_);
    });
  }

  // Computes the scores of a token on the host. Waits for the stream.
  absl::StatusOr<PointedTokens> PointedBy(int64_t token) const {
    const int64_t first = token / setting_.batch.sequence_length * setting_.batch.sequence_length;
    const int64_t count = token + 1 - first;
    PointedTokens pointed{.ids = std::vector<int32_t>(static_cast<size_t>(count))};
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix projected, HostCopy(memory_.projected.RowSlice(first, count), *stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix slot, HostCopy(memory_.slot.RowSlice(token, 1), *stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix sink, HostCopy(sink_.weight, *stream_));
    ISTHMUS_RETURN_IF_ERROR(
        CopyToHost(ids_.ColumnSlice(first, count), Tensor(pointed.ids.data(), DType::kInt32, 1, count), *stream_));
    const Eigen::VectorXd scores =
        Scale() * projected.rightCols(width_) * projected.row(count - 1).head(width_).transpose();
    pointed.scores.assign(scores.begin(), scores.end());
    pointed.slot = slot(0, 0);
    pointed.sink = sink(0, 0);
    return pointed;
  }

  const PartSetting& setting_;
  const LossForm form_;
  const int64_t width_;        // d
  const Range classes_;        // the vocabulary rows of this rank
  VocabularyProduct product_;  // with W
  Linear down_;                // Q above K above w_s
  Linear sink_;                // s_0
  ParameterHandle parameter_, down_parameters_, sink_parameter_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Tensor ids_;  // of the micro-batch that was trained or read last
  Memory memory_;
  std::optional<PointerJacobians> jacobians_;
};

std::string CheckCopy(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind copy accepts 0");
  }
  if (config.tied_embeddings()) return "model.tied_embeddings: true; a head of kind copy accepts false";
  const int64_t width = config.head().copy_width();
  if (width >= 1 && width <= kMostCopyWidth) return "";
  return absl::StrCat("model.head.copy_width: ", width, "; accepts 1 to ", kMostCopyWidth);
}

}  // namespace

HeadKind CopyHeadKind() {
  return {.name = "copy",
          .make = [](const HeadRequest& request) { return std::make_unique<CopyHead>(request); },
          .title =
              [](const proto::ModelConfig& config) {
                return absl::StrCat("copying head of width ", config.head().copy_width());
              },
          .check = CheckCopy};
}

}  // namespace isthmus
