// The sampled head trains by the softmax over K of the V classes: all targets of the step, over all data ranks and
// micro-batches, and others by chance (Jean et al. 2015, arXiv:1412.2007, section 3.2; here all tokens share the
// sample, the others have equal chances, and no logit is corrected for its chance). W is that of a full head, or of a
// tied one. Stages (model.head.sampled) say how many classes there are from which step on. Without a number a stage has
// the softmax of the whole vocabulary, as evaluation always has.
//
// The gradient of a step is that of its own loss: rows of W that are not in the sample have none. A sample is a
// function of the seed, the step and the step's targets, whatever the mesh. If the targets alone are more than K, they
// are the sample. A rank gathers its rows of the sample once per step, and adds their gradient to that of W.
//
// The decomposition of a step with a sample is that of a head with K classes: W are the rows of the sample, and a head
// in random position loses √(1 - D/K).
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/future_schedule.h"
#include "model/heads/class_sample.h"
#include "model/heads/heads.h"
#include "model/heads/sampled_rows.h"
#include "model/heads/token_jacobians.h"
#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/loss_form.h"
#include "runtime/device.h"
#include "runtime/host_buffer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kTied[] =
    "the softmax of this step is over a sample of the rows of tied embeddings, whose gradient is that of both uses";

// The loss is that of the sample. The probabilities of the vocabulary are those of the whole head.
class SampledJacobians : public TokenJacobians {
 public:
  // All must outlive this object. `classes` are those of the step.
  SampledJacobians(LmHead& whole, const SampledRows& rows, const HeadClasses& classes, const LossForm& form)
      : whole_(whole), rows_(rows), classes_(classes), form_(form) {}
  void Bind(Communicator& tensor, Stream& stream) {
    tensor_ = &tensor;
    stream_ = &stream;
  }

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override {
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView whole, whole_.View());
    ISTHMUS_ASSIGN_OR_RETURN(Matrix weight, HostCopy(rows_.product().weight(), *stream_));
    const auto shared = std::make_shared<const Matrix>(std::move(weight));
    Eigen::Index n = 0;
    return LinearJacobians(whole, form_, *tensor_, *stream_)->Visit(tokens, [&](TokenJacobian token) -> absl::Status {
      token.logits = shared;
      ISTHMUS_ASSIGN_OR_RETURN(const ShardedSoftmax softmax,
                               ShardedSoftmax::Of(*shared * tokens.hidden.row(n).transpose(), form_, *tensor_));
      const auto place =
          std::lower_bound(classes_.rows.begin(), classes_.rows.end(), tokens.targets[static_cast<size_t>(n++)]);
      token.gradient = softmax.Gradient(place - classes_.rows.begin() - rows_.classes().begin, form_);
      return visit(std::move(token));
    });
  }

 private:
  LmHead& whole_;
  const SampledRows& rows_;
  const HeadClasses& classes_;
  const LossForm form_;
  Communicator* tensor_ = nullptr;
  Stream* stream_ = nullptr;
};

class SampledHead : public LmHead {
 public:
  explicit SampledHead(const HeadRequest& request)
      : setting_(request.setting),
        stages_(request.config.head().sampled().begin(), request.config.head().sampled().end()),
        tied_(request.config.tied_embeddings()),
        offsets_(FutureSchedule(request.config.head()).offsets()),
        whole_(FindHead(tied_ ? "tied" : "full")->make(request)),
        rows_(setting_),
        jacobians_(*whole_, rows_, view_, LossFormOf(request.config)) {}

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    whole_->Declare(embedding, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override {
    whole_->Place(chunk, placer);
    if (!setting_.training) return;
    targets_ = placer.Place("head.sampled_targets", DType::kInt32, 1 + offsets_, setting_.batch.tokens());
    rows_.Place(chunk, placer);
  }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    whole_->Bind(parameters, region, stream);
    jacobians_.Bind(region.tensor(), stream);
    of_whole_ = {parameters.Weight(parameter()), parameters.Gradient(parameter())};
    region_ = &region;
    stream_ = &stream;
    sampling_ = false;
  }

  absl::Status BeginStep(const HeadStep& step) override {
    ISTHMUS_RETURN_IF_ERROR(whole_->BeginStep(step));
    const int64_t count = ClassesOf(step.step);
    sampling_ = count > 0 && count < setting_.vocabulary;
    if (!sampling_) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(view_.rows, Sample(step, count));
    ISTHMUS_RETURN_IF_ERROR(TakeTargets(step.targets));
    return rows_.Gather(view_.rows, of_whole_, *stream_);
  }

  absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss) override {
    if (!sampling_) return whole_->Train(batch, loss);
    const int64_t tokens = batch.hidden.rows;
    const Tensor of_batch = view_.step_targets.ColumnSlice(batch.begin, tokens);
    const Tensor targets = targets_.ColumnSlice(0, tokens).RowSlice(0, of_batch.rows);
    view_.targets = targets;
    for (int64_t k = 0; k < targets.rows; ++k) {
      ISTHMUS_RETURN_IF_ERROR(StartCopyFromHost(of_batch.RowSlice(k, 1), targets.RowSlice(k, 1), *stream_));
    }
    const VocabularyProduct& product = rows_.product();
    const Range classes = rows_.classes();
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = product.gradient()}, *stream_));
    HeadObservation observed = batch.observed == nullptr ? HeadObservation() : *batch.observed;
    if (batch.observed != nullptr) observed.row_energy = observed.row_energy.ColumnSlice(0, classes.size());
    const auto train = [&](int64_t begin, int64_t count) -> absl::Status {
      const Tensor hidden = batch.hidden.RowSlice(begin, count);
      const SoftmaxChunk chunk = {.logits = loss.Logits(count, classes.size()),
                                  .targets = targets.ColumnSlice(begin, count),
                                  .first_class = classes.begin};
      ISTHMUS_RETURN_IF_ERROR(product.Forward(hidden, chunk.logits, *stream_));
      ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
      if (batch.observed != nullptr) ISTHMUS_RETURN_IF_ERROR(loss.Observe(begin, count, observed));
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor grad_logits,
                               loss.Gradient(chunk, batch.scale, batch.observed == nullptr ? nullptr : &observed));
      const Tensor signal = observed.signal.defined() ? observed.signal.RowSlice(begin, count) : Tensor();
      return product.Backward(grad_logits, hidden, batch.grad_hidden.RowSlice(begin, count), signal, *stream_);
    };
    ISTHMUS_RETURN_IF_ERROR(loss.ForChunks(tokens, train));
    ISTHMUS_RETURN_IF_ERROR(rows_.AddGradient(of_whole_, *stream_));
    signal_ = region_->LocalPart(batch.grad_hidden);
    return region_->Leave(batch.grad_hidden, signal_);
  }
  // The sizes of its work follow from the sample.
  bool capturable() const override { return !sampling_; }

  absl::Status Begin(const Tensor& hidden) override { return whole_->Begin(hidden); }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return whole_->Logits(hidden, begin, logits);
  }

  absl::StatusOr<HeadView> View() override {
    if (!sampling_) return whole_->View();
    if (tied_) return HeadView{.not_linear = kTied, .jacobians = &jacobians_};
    // Train has added this memory's gradient to that of W, from which the sums over the data ranks come back.
    ISTHMUS_RETURN_IF_ERROR(rows_.TakeGradient(of_whole_, *stream_));
    return HeadView{.rows = rows_.classes(),
                    .classes = &view_,
                    .weight = rows_.product().weight(),
                    .gradient = rows_.product().gradient(),
                    .signal = signal_,
                    .signal_is_local = region_->sequence_parallel(),
                    .jacobians = &jacobians_};
  }
  ParameterHandle parameter() const override { return whole_->parameter(); }
  // They are those of the first stage.
  double ForwardFlopsPerToken() const override {
    const int64_t count = ClassesOf(1);
    const double share =
        count == 0 ? 1 : std::min(1.0, static_cast<double>(count) / static_cast<double>(setting_.vocabulary));
    return share * whole_->ForwardFlopsPerToken();
  }

 private:
  // Returns K of a step's stage.
  int64_t ClassesOf(int64_t step) const {
    int64_t classes = 0;
    for (const proto::SampledStageConfig& stage : stages_) {
      if (stage.from_step() <= step) classes = stage.classes();
    }
    return classes;
  }

  absl::StatusOr<std::vector<int32_t>> Sample(const HeadStep& step, int64_t count) {
    std::vector<uint8_t> flags(static_cast<size_t>(setting_.vocabulary));
    if (!stream_->dry()) {  // else nobody knows the targets, and none count
      const auto* targets = step.targets.As<const int32_t>();
      for (int64_t i = 0; i < step.targets.size(); ++i) flags[static_cast<size_t>(targets[i])] = 1;
    }
    if (region_->data().size() > 1) {
      const Tensor all(flags.data(), DType::kUInt8, 1, setting_.vocabulary);
      ISTHMUS_RETURN_IF_ERROR(region_->data().host().AllReduce(all, Reduction::kMax));
    }
    return SampleClasses(flags, count, setting_.seed, step.step);
  }

  // Keeps the place of each target in the sample.
  absl::Status TakeTargets(const Tensor& targets) {
    if (stream_->dry()) {
      view_.step_targets = targets;
      return absl::OkStatus();
    }
    const std::vector<int32_t>& sample = view_.rows;
    ISTHMUS_ASSIGN_OR_RETURN(view_.step_targets,
                             host_targets_.Room(DType::kInt32, targets.rows, targets.columns, *stream_));
    const auto* ids = targets.As<const int32_t>();
    std::transform(ids, ids + targets.size(), view_.step_targets.As<int32_t>(), [&](int32_t id) {
      return static_cast<int32_t>(std::lower_bound(sample.begin(), sample.end(), id) - sample.begin());
    });
    return absl::OkStatus();
  }

  const PartSetting& setting_;
  const std::vector<proto::SampledStageConfig> stages_;
  const bool tied_;
  const int64_t offsets_;                // K, of later targets
  const std::unique_ptr<LmHead> whole_;  // of the whole vocabulary
  SampledRows rows_;
  Linear of_whole_;  // W [V_i, D]
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  bool sampling_ = false;  // in this step
  HeadClasses view_;
  HostBuffer host_targets_;
  Tensor targets_;  // int32 [1 + K, N]: those of a micro-batch
  Tensor signal_;   // the local part of the hidden states' gradient
  SampledJacobians jacobians_;
};

std::string CheckSampled(const proto::ModelConfig& config) {
  const auto& stages = config.head().sampled();
  constexpr char kField[] = "model.head.sampled";
  if (HeadRankOf(config) != 0) {
    return absl::StrCat(HeadRankField(config), ": ", HeadRankOf(config), "; a head of kind sampled accepts 0");
  }
  if (stages.empty()) {
    return absl::StrCat(kField, ": empty; a head of kind sampled needs a stage, as in \"from_step: 1 classes: 8192\"");
  }
  int64_t before = 0;
  for (const proto::SampledStageConfig& stage : stages) {
    if (stage.from_step() <= before || (before == 0 && stage.from_step() != 1)) {
      return absl::StrCat(kField, ": from_step: ", stage.from_step(), "; accepts ",
                          before == 0 ? "1 for the first stage" : absl::StrCat("steps after ", before));
    }
    if (stage.classes() < 0) {
      return absl::StrCat(kField, ": classes: ", stage.classes(),
                          "; accepts 0 (the whole vocabulary) and numbers of classes");
    }
    before = stage.from_step();
  }
  return "";
}

}  // namespace

HeadKind SampledHeadKind() {
  return {.name = "sampled",
          .make = [](const HeadRequest& request) { return std::make_unique<SampledHead>(request); },
          .shape =
              [](const proto::ModelConfig& config) {
                return HeadShape{.width = config.width(), .in_embedding = config.tied_embeddings()};
              },
          .title =
              [](const proto::ModelConfig& config) {
                const auto& stages = config.head().sampled();
                const int64_t classes = stages.empty() ? 0 : stages[0].classes();
                return absl::StrCat("softmax of ", classes == 0 ? "all" : absl::StrCat(classes, " sampled"),
                                    " classes");
              },
          .check = CheckSampled};
}

}  // namespace isthmus
