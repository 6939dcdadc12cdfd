// The contrastive head trains each hidden state to find the embedding of its target among those of the targets of its
// micro-batch (contrastive weight tying; Godey, de la Clergerie & Sagot 2023, arXiv:2309.08351, section 3):
//
//   loss_n = −log (exp(h_n · e(y_n)) / Σ_k exp(h_n · e(y_k)))     k over the K tokens of the micro-batch
//
// e are the model's input embeddings, which get gradients as targets, too. No product has V columns. A token that is
// the target m times stands m times in the sum. It is one class here with the logit z + log m. The gradient is that of
// the formula. The loss is lower by log m, because the target may be found in any of its places: a constant. With
// model.head.contrastive.duplicates false each token counts once.
//
// The tokens are those of the data rank, or of all data ranks (`gather`). From a step on (`vocabulary_from_step`) the
// head trains by the softmax of the whole vocabulary, with the same embeddings. Evaluation and generation of text always
// have that softmax. The paper copies the embeddings then; here they stay tied.
//
// The embeddings' gradient is that of both uses, and the classes change with each micro-batch: the decomposition of a
// contrastive step has no one matrix W, and says so. The Jacobian of a token is that of its own micro-batch's classes.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/sampled_rows.h"
#include "model/heads/token_jacobians.h"
#include "model/linear.h"
#include "ops/broadcast.h"
#include "ops/elementwise.h"
#include "ops/loss_form.h"
#include "runtime/device.h"
#include "runtime/host_buffer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kChanging[] = "the classes of its softmax change with each micro-batch";

// The classes of one micro-batch: rows of the vocabulary, ascending, and how often each is a target.
struct ContrastedClasses {
  ContrastedClasses() = default;
  explicit ContrastedClasses(std::vector<int32_t> targets) {
    std::sort(targets.begin(), targets.end());
    for (const int32_t id : targets) {
      if (rows.empty() || rows.back() != id) {
        rows.push_back(id);
        counts.push_back(0);
      }
      ++counts.back();
    }
  }
  // Returns log m of the classes of a range [1, n].
  Matrix LogCounts(Range range) const {
    Matrix logs(1, range.size());
    for (int64_t i = 0; i < range.size(); ++i) {
      logs(0, i) = std::log(static_cast<double>(counts[static_cast<size_t>(range.begin + i)]));
    }
    return logs;
  }
  // Returns the class of a target.
  int32_t Find(int32_t id) const {
    return static_cast<int32_t>(std::lower_bound(rows.begin(), rows.end(), id) - rows.begin());
  }

  std::vector<int32_t> rows;
  std::vector<int64_t> counts;
};

// The loss is that of the micro-batch's classes. The probabilities of the vocabulary are those of the whole head.
class ContrastiveJacobians : public TokenJacobians {
 public:
  // All must outlive this object. `rows` and `classes` are those of the last micro-batch.
  ContrastiveJacobians(LmHead& whole, const SampledRows& rows, const ContrastedClasses& classes, bool duplicates,
                       const LossForm& form)
      : whole_(whole), rows_(rows), classes_(classes), duplicates_(duplicates), form_(form) {}
  void Bind(Communicator& tensor, Stream& stream) {
    tensor_ = &tensor;
    stream_ = &stream;
  }
  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView whole, whole_.View());
    ISTHMUS_ASSIGN_OR_RETURN(Matrix weight, HostCopy(rows_.product().weight(), *stream_));
    const auto shared = std::make_shared<const Matrix>(std::move(weight));
    const Range part = rows_.classes();
    Eigen::VectorXd bias = Eigen::VectorXd::Zero(part.size());
    if (duplicates_) bias = classes_.LogCounts(part).row(0);
    Eigen::Index n = 0;
    return LinearJacobians(whole, form_, *tensor_, *stream_)->Visit(tokens, [&](TokenJacobian token) -> absl::Status {
      token.logits = shared;
      ISTHMUS_ASSIGN_OR_RETURN(const ShardedSoftmax softmax,
                               ShardedSoftmax::Of(*shared * tokens.hidden.row(n).transpose() + bias, form_, *tensor_));
      token.gradient = softmax.Gradient(classes_.Find(tokens.targets[static_cast<size_t>(n++)]) - part.begin, form_);
      return visit(std::move(token));
    });
  }

 private:
  LmHead& whole_;
  const SampledRows& rows_;
  const ContrastedClasses& classes_;
  const bool duplicates_;
  const LossForm form_;
  Communicator* tensor_ = nullptr;
  Stream* stream_ = nullptr;
};

class ContrastiveHead : public LmHead {
 public:
  explicit ContrastiveHead(const HeadRequest& request)
      : setting_(request.setting),
        config_(request.config.head().contrastive()),
        whole_(FindHead("tied")->make(request)),
        rows_(setting_),
        jacobians_(*whole_, rows_, classes_, config_.duplicates(), LossFormOf(request.config)) {}

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    whole_->Declare(embedding, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    whole_->Place(chunk, placer);
    if (!setting_.training) return;
    rows_.Place(chunk, placer);
    memory_.targets = placer.Place("head.contrasted_targets", DType::kInt32, 1, setting_.batch.tokens());
    memory_.bias =
        placer.Place("head.contrasted_bias", setting_.sum_type(), 1, setting_.Share(setting_.vocabulary).size());
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    whole_->Bind(parameters, region, stream);
    of_whole_ = {parameters.Weight(parameter()), parameters.Gradient(parameter())};
    jacobians_.Bind(region.tensor(), stream);
    region_ = &region;
    stream_ = &stream;
    contrasting_ = false;
  }

  absl::Status BeginStep(const HeadStep& step) override {
    ISTHMUS_RETURN_IF_ERROR(whole_->BeginStep(step));
    contrasting_ = Contrasts(step.step);
    if (!contrasting_) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(memory_.host_targets,
                             target_buffer_.Room(DType::kInt32, 1, step.targets.size(), *stream_));
    return TakeTargets(step.targets);
  }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    if (!contrasting_) return whole_->Train(batch, loss);
    const int64_t tokens = batch.hidden.rows;
    ISTHMUS_RETURN_IF_ERROR(TakeClasses(batch.begin, tokens));
    const Tensor targets = memory_.targets.ColumnSlice(0, tokens), bias = Bias();
    const VocabularyProduct& product = rows_.product();
    const Range classes = rows_.classes();
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = product.gradient()}, *stream_));
    const auto train = [&](int64_t begin, int64_t count) -> absl::Status {
      const Tensor hidden = batch.hidden.RowSlice(begin, count);
      const SoftmaxChunk chunk = {.logits = loss.Logits(count, classes.size()),
                                  .targets = targets.ColumnSlice(begin, count),
                                  .first_class = classes.begin};
      ISTHMUS_RETURN_IF_ERROR(product.Forward(hidden, chunk.logits, *stream_));
      if (config_.duplicates()) ISTHMUS_RETURN_IF_ERROR(AddRow({.x = bias, .y = chunk.logits}, *stream_));
      ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor grad_logits, loss.Gradient(chunk, batch.scale, nullptr));
      return product.Backward(grad_logits, hidden, batch.grad_hidden.RowSlice(begin, count), Tensor(), *stream_);
    };
    ISTHMUS_RETURN_IF_ERROR(loss.ForChunks(tokens, train));
    ISTHMUS_RETURN_IF_ERROR(rows_.AddGradient(of_whole_, *stream_));
    return region_->Leave(batch.grad_hidden, region_->LocalPart(batch.grad_hidden));
  }
  bool takes_future(int64_t step) const override { return !Contrasts(step); }
  // The sizes of its work follow from the targets.
  bool capturable() const override { return !contrasting_; }

  absl::Status Begin(const Tensor& hidden) override { return whole_->Begin(hidden); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return whole_->Logits(hidden, begin, logits);
  }

  absl::StatusOr<HeadView> View() override {
    if (!contrasting_) return whole_->View();
    return HeadView{.not_linear = kChanging, .jacobians = &jacobians_};
  }
  ParameterHandle parameter() const override { return whole_->parameter(); }
  // They are those of the first step, at most: each token of the micro-batch may be another one.
  double ForwardFlopsPerToken() const override {
    if (config_.vocabulary_from_step() == 1) return whole_->ForwardFlopsPerToken();
    const auto vocabulary = static_cast<double>(setting_.vocabulary);
    return std::min(vocabulary, static_cast<double>(setting_.batch.tokens())) / vocabulary *
           whole_->ForwardFlopsPerToken();
  }

 private:
  bool Contrasts(int64_t step) const {
    return config_.vocabulary_from_step() == 0 || step < config_.vocabulary_from_step();
  }
  // Keeps the targets of the step, [ranks, n]: this data rank's, or those of all in their order.
  absl::Status TakeTargets(const Tensor& targets) {
    const int64_t count = targets.size();
    std::vector<int32_t> own(static_cast<size_t>(count));
    for (int64_t n = 0; n < count; ++n) {  // where nothing is computed nobody knows them
      own[static_cast<size_t>(n)] =
          stream_->dry() ? static_cast<int32_t>(n * setting_.vocabulary / count) : targets.As<const int32_t>()[n];
    }
    Communicator& data = region_->data().host();
    all_targets_ = own;
    if (!config_.gather() || data.size() == 1) return absl::OkStatus();
    all_targets_.resize(static_cast<size_t>(data.size() * count));
    return data.AllGather(Tensor(own.data(), DType::kInt32, 1, count),
                          Tensor(all_targets_.data(), DType::kInt32, data.size(), count));
  }

  // Brings the classes of the micro-batch that begins with the token `begin` to the device.
  absl::Status TakeClasses(int64_t begin, int64_t tokens) {
    const int64_t count = memory_.host_targets.size(), own = OwnRow() * count;
    std::vector<int32_t> all;
    for (int64_t row = 0; row < static_cast<int64_t>(all_targets_.size()); row += count) {
      const auto first = all_targets_.begin() + row + begin;
      all.insert(all.end(), first, first + tokens);
    }
    classes_ = ContrastedClasses(std::move(all));
    ISTHMUS_RETURN_IF_ERROR(rows_.Gather(classes_.rows, of_whole_, *stream_));
    ISTHMUS_RETURN_IF_ERROR(CopyToTensor(classes_.LogCounts(rows_.classes()), Bias(), *stream_));
    const Tensor targets = memory_.host_targets.ColumnSlice(begin, tokens);
    for (int64_t n = 0; n < tokens; ++n) {
      targets.As<int32_t>()[n] = classes_.Find(all_targets_[static_cast<size_t>(own + begin + n)]);
    }
    return StartCopyFromHost(targets, memory_.targets.ColumnSlice(0, tokens), *stream_);
  }
  // Returns this data rank's place among those whose targets it has.
  int64_t OwnRow() const { return config_.gather() ? region_->data().rank() : 0; }
  Tensor Bias() const { return memory_.bias.ColumnSlice(0, rows_.classes().size()); }

  const PartSetting& setting_;
  const proto::HeadContrastiveConfig config_;
  const std::unique_ptr<LmHead> whole_;  // of the whole vocabulary
  SampledRows rows_;
  ContrastedClasses classes_;  // of the last micro-batch
  ContrastiveJacobians jacobians_;
  Linear of_whole_;  // the embeddings [V_i, D]
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  bool contrasting_ = false;  // in this step
  std::vector<int32_t> all_targets_;
  HostBuffer target_buffer_;
  struct Memory {
    Tensor host_targets;  // int32 [1, n] in host memory: classes of this data rank's targets
    Tensor targets;       // int32 [1, N]: those of a micro-batch
    Tensor bias;          // log m [1, V_i]
  } memory_;
};

std::string CheckContrastive(const proto::ModelConfig& config) {
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind contrastive accepts 0");
  }
  if (!config.tied_embeddings()) {
    return "model.tied_embeddings: false; the classes of a head of kind contrastive are the input embeddings, and it "
           "accepts true";
  }
  if (const double cap = config.head().soft_cap(); cap != 0) {
    return absl::StrCat("model.head.soft_cap: ", cap,
                        "; a head of kind contrastive accepts 0: a token that is the "
                        "target several times has the logarithm of that in its logit");
  }
  if (const int64_t from = config.head().contrastive().vocabulary_from_step(); from < 0) {
    return absl::StrCat("model.head.contrastive.vocabulary_from_step: ", from, "; accepts 0 (never) and steps");
  }
  return "";
}

}  // namespace

HeadKind ContrastiveHeadKind() {
  return {.name = "contrastive",
          .make = [](const HeadRequest& request) { return std::make_unique<ContrastiveHead>(request); },
          .shape =
              [](const proto::ModelConfig& config) { return HeadShape{.width = config.width(), .in_embedding = true}; },
          .title = [](const proto::ModelConfig&) { return std::string("contrastive head"); },
          .check = CheckContrastive};
}

}  // namespace isthmus
