#include "model/train/training_model.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"
#include "runtime/work_recorder.h"

namespace isthmus {
namespace {

// Returns the first matrix among the parameters of a segment, which begin with norms.
int FirstMatrix(const ParameterStore& parameters, int segment) {
  const auto found = std::find_if(parameters.specs().begin(), parameters.specs().end(),
                                  [&](const ParameterSpec& spec) { return spec.segment == segment && spec.rows > 1; });
  return static_cast<int>(found - parameters.specs().begin());
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingModel>> TrainingModel::Create(const proto::RunConfig& config, const Mesh& mesh,
                                                                     Stream& stream, StepObserver* observer,
                                                                     const TokenTables& tables) {
  auto model = absl::WrapUnique(new TrainingModel(mesh, stream, observer));
  const Communicator::Record record = mesh.world().record();
  model->timer_ = std::make_unique<PhaseTimer>(stream, record.ring == nullptr ? nullptr : &record.ring->whereabouts());
  model->clip_norm_ = config.optimizer().clip_norm();

  ISTHMUS_ASSIGN_OR_RETURN(model->model_, Model::Build(config, mesh, stream, Purpose::Training(config), tables));
  const ParameterStore& parameters = model->parameters();
  const ParameterTable& table = parameters.table();
  ISTHMUS_ASSIGN_OR_RETURN(GradientReducer reducer,
                           GradientReducer::Create(mesh.data(), parameters.gradients(), table.segments,
                                                   BucketBytes(config.mesh()), config.mesh().shard_optimizer()));
  model->reducer_ = std::make_unique<GradientReducer>(std::move(reducer));
  ISTHMUS_ASSIGN_OR_RETURN(model->optimizer_, Optimizer::Create(parameters, mesh, config, stream));
  ISTHMUS_RETURN_IF_ERROR(model->ids_.Reserve(model->MicroBatchTokens(), stream));
  ISTHMUS_RETURN_IF_ERROR(model->targets_.Reserve((1 + model->loss().offsets()) * model->MicroBatchTokens(), stream));
  model->registered_.push_back(mesh.data().Register(parameters.gradients()));
  if (config.mesh().shard_optimizer()) model->registered_.push_back(mesh.data().Register(parameters.weights()));
  model->capture_ = model->CanCapture(config.cuda());
  return model;
}

bool TrainingModel::CanCapture(const proto::CudaConfig& config) const {
  if (!config.graph() || !stream_.on_gpu()) return false;
  if (mesh_.tensor().capturable() && mesh_.data().capturable()) return true;
  stream_.Note("cuda.graph has no effect: collectives go through host memory, which no graph can hold");
  return false;
}

MemoryBytes TrainingModel::memory() const {
  return {.weights = parameters().weight_bytes(),
          .gradients = parameters().gradient_bytes(),
          .optimizer = optimizer_.bytes(),
          .activations = model_->backbone().bytes(),
          .head = model_->loss().bytes(),
          .decomposition = observer_ == nullptr ? 0 : observer_->bytes(),
          .tokens = ids_.bytes() + targets_.bytes(),
          .scratch = StreamScratchBytes(stream_.device())};
}

absl::Status TrainingModel::InitializeWeights(uint64_t seed) {
  ISTHMUS_RETURN_IF_ERROR(parameters().Initialize(seed));
  return optimizer_.Initialize(seed);
}

absl::Status TrainingModel::MicroBatch(const MicroBatchInput& tokens, const MicroBatchKind& kind) {
  Backbone& backbone = model_->backbone();
  ChunkedLoss& loss = model_->loss();
  const StepObserver::Observed observed = kind.measured ? observer_->observed() : StepObserver::Observed();
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kForward, seconds_);
    FaultPoint("step.forward");
    ISTHMUS_RETURN_IF_ERROR(backbone.Forward(tokens.ids));
  }
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kHead, seconds_);
    ISTHMUS_RETURN_IF_ERROR(loss.Train({.hidden = backbone.hidden(),
                                        .targets = tokens.targets,
                                        .ids = tokens.ids,
                                        .begin = tokens.begin,
                                        .scale = kind.scale,
                                        .grad_hidden = backbone.grad_hidden(),
                                        .observed = observed.head}));
  }
  if (kind.measured) {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, loss.View());
    ISTHMUS_RETURN_IF_ERROR(observer_->AddMicroBatch(head, backbone.hidden(), tokens.targets));
  }
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kBackward, seconds_);
    FaultPoint("step.backward");
    Backbone::SegmentReady segment_ready;
    if (kind.last) segment_ready = [this](int segment) { return SegmentReady(segment); };
    ISTHMUS_RETURN_IF_ERROR(backbone.Backward(tokens.ids, segment_ready, observed.backward));
  }
  if (!kind.last) return absl::OkStatus();
  const PhaseTimer::Scope phase(*timer_, StepPhase::kReduce, seconds_);
  FaultPoint("step.reduce");
  return reducer_->Finish();
}

absl::Status TrainingModel::SegmentReady(int segment) {
  // This is a matrix of the first layer: by then all buckets but the last are on their way.
  if (segment == 1) FaultPoint("step.gradients", parameters().Gradient(FirstMatrix(parameters(), segment)), stream_);
  return reducer_->SegmentReady(segment);
}

absl::Status TrainingModel::Capture(const MicroBatchInput& tokens, const MicroBatchKind& kind, Recurring& recurring) {
  auto work = CapturedWork::Capture(stream_, [&] { return MicroBatch(tokens, kind); });
  const int phases = timer_->TakeCaptured();
  const absl::Status status = AgreeOnStatus(mesh_.world(), work.status());
  if (status.ok()) {
    recurring = {*std::move(work), phases};
    return absl::OkStatus();
  }
  stream_.Note(absl::StrCat("cuda.graph has no effect: a micro-batch can't be captured: ", status.message()));
  reducer_->Reset();
  capture_ = false;
  return absl::OkStatus();
}

absl::Status TrainingModel::RunMicroBatch(const MicroBatchInput& tokens, const MicroBatchKind& kind) {
  const bool capturable = model_->loss().capturable() && (!kind.measured || observer_->capturable());
  if (!capture_ || !capturable) return MicroBatch(tokens, kind);
  // In the first run libraries prepare what a capture must find ready.
  const auto [found, first] = recurring_.try_emplace(kind);
  if (first) return MicroBatch(tokens, kind);
  Recurring& recurring = found->second;
  if (recurring.work == nullptr) ISTHMUS_RETURN_IF_ERROR(Capture(tokens, kind, recurring));
  if (!capture_) return MicroBatch(tokens, kind);
  ISTHMUS_RETURN_IF_ERROR(recurring.work->Start());
  timer_->Replayed(recurring.phases);
  ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Replayed());
  return mesh_.data().Replayed();
}

absl::Status TrainingModel::MeasuredMicroBatch(int64_t begin, const MicroBatchKind& kind) {
  const int64_t tokens = MicroBatchTokens();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.Part(begin, tokens, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.Part(begin, tokens, stream_));
  if (kind.measured) {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
    ISTHMUS_RETURN_IF_ERROR(observer_->BeginMicroBatch(begin / tokens));
  }
  ISTHMUS_RETURN_IF_ERROR(RunMicroBatch({.ids = ids, .targets = targets, .begin = begin}, kind));
  if (!kind.measured) return absl::OkStatus();
  const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
  return observer_->EndMicroBatch();
}

int TrainingModel::captured() const {
  return static_cast<int>(std::count_if(recurring_.begin(), recurring_.end(),
                                        [](const auto& kind) { return kind.second.work != nullptr; }));
}

absl::Status TrainingModel::Rehearse() {
  std::vector<int32_t> tokens(static_cast<size_t>(MicroBatchTokens()), 0);
  const Tensor host(tokens.data(), DType::kInt32, 1, MicroBatchTokens());
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.OnDevice(host, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.OnDevice(host, stream_));
  ISTHMUS_RETURN_IF_ERROR(
      MicroBatch({.ids = ids, .targets = targets},
                 {.last = false, .measured = observer_ != nullptr, .later_targets = false, .scale = 1}));
  return stream_.Synchronize();
}

absl::StatusOr<StepResult> TrainingModel::Step(const StepRequest& request) {
  ISTHMUS_RETURN_IF_ERROR(CheckRequest(request));
  ISTHMUS_RETURN_IF_ERROR(BeginStep(request));
  const double scale = 1.0 / (static_cast<double>(request.ids.columns) * mesh_.data_ranks());
  ISTHMUS_ASSIGN_OR_RETURN(const LossSums sums, RunMicroBatches(request, scale));
  ISTHMUS_ASSIGN_OR_RETURN(StepResult result, Agree(request, sums, scale));
  if (result.applied) ISTHMUS_RETURN_IF_ERROR(Apply(request, sums, scale, result));
  ISTHMUS_RETURN_IF_ERROR(timer_->Collect());
  result.seconds = seconds_;
  return result;
}

absl::Status TrainingModel::CheckRequest(const StepRequest& request) const {
  const Tensor &ids = request.ids, &targets = request.targets;
  const int64_t tokens = MicroBatchTokens();
  if (ids.columns != targets.columns || ids.columns < tokens || ids.columns % tokens != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a step's ids and targets must be whole micro-batches of ", tokens,
                                                   " tokens; found ", ids.Describe(), " and ", targets.Describe()));
  }
  if (request.measure && observer_ == nullptr) {
    return absl::InvalidArgumentError(
        "a model whose run never measures its head can't measure it (telemetry.interval)");
  }
  return absl::OkStatus();
}

absl::Status TrainingModel::BeginStep(const StepRequest& request) {
  timer_->Reset();
  seconds_ = {};
  const Tensor targets = model_->loss().StepTargets(request.step, request.targets);
  ISTHMUS_RETURN_IF_ERROR(ids_.Take(request.ids, stream_));
  ISTHMUS_RETURN_IF_ERROR(targets_.Take(targets, stream_));
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kOptimizer, seconds_);
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = parameters().gradients()}, stream_));
  }
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kHead, seconds_);
    ISTHMUS_RETURN_IF_ERROR(model_->loss().BeginStep({.step = request.step, .targets = targets}));
  }
  if (!request.measure) return absl::OkStatus();
  const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
  ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, model_->loss().View());
  return observer_->BeginStep(head, {.step = request.step,
                                     .local_tokens = request.ids.columns,
                                     .targets = targets,
                                     .future_weights = model_->loss().future_weights(),
                                     .last = request.last});
}

absl::StatusOr<LossSums> TrainingModel::RunMicroBatches(const StepRequest& request, double scale) {
  const int64_t tokens = MicroBatchTokens(), micro_batches = request.ids.columns / tokens;
  ISTHMUS_RETURN_IF_ERROR(model_->loss().ResetSums());
  ISTHMUS_RETURN_IF_ERROR(ForEachAlike(stream_, micro_batches, [&](int64_t index) {
    return MeasuredMicroBatch(index * tokens, {.last = index + 1 == micro_batches,
                                               .measured = request.measure,
                                               .later_targets = !model_->loss().future_weights().empty(),
                                               .scale = scale});
  }));
  const PhaseTimer::Scope phase(*timer_, StepPhase::kReduce, seconds_);
  return model_->loss().Sums();
}

absl::StatusOr<StepResult> TrainingModel::Agree(const StepRequest& request, const LossSums& sums, double scale) {
  const PhaseTimer::Scope phase(*timer_, StepPhase::kReduce, seconds_);
  const TraceRange range(stream_, "gradient norm");
  double loss = sums.loss;
  FaultPoint("step.loss", Tensor(&loss, DType::kFloat64, 1, 1), Stream());
  loss_finite_ = std::isfinite(loss);
  ISTHMUS_ASSIGN_OR_RETURN(const Optimizer::GradientSquares squares, optimizer_.SquaresOfGradients());
  // All waits of a group that failed on a GPU have ended, without sums.
  ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Progress());
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().Progress());
  StepResult result;
  ISTHMUS_ASSIGN_OR_RETURN(static_cast<StepFigures&>(result),
                           AgreeOnFigures({loss, squares, optimizer_.sharded()}, scale, mesh_));
  result.too_large = result.finite() && !optimizer_.CanTake(result.gradient_norm, ClipFactor(result.gradient_norm));
  result.applied = result.sound() && (!request.accept || request.accept(result));
  return result;
}

double TrainingModel::ClipFactor(double gradient_norm) const {
  return clip_norm_ > 0 && gradient_norm > clip_norm_ ? clip_norm_ / gradient_norm : 1.0;
}

absl::Status TrainingModel::Apply(const StepRequest& request, const LossSums& sums, double scale, StepResult& result) {
  std::optional<LossDecrease> decrease;
  ChunkedLoss& loss = model_->loss();
  if (request.measure || loss.changes_gradient()) {
    const PhaseTimer::Scope phase(*timer_, request.measure ? StepPhase::kTelemetry : StepPhase::kHead, seconds_);
    ISTHMUS_RETURN_IF_ERROR(reducer_->GatherGradients(parameters().table().ElementsOf(loss.parameter())));
  }
  if (request.measure) {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, loss.View());
    ISTHMUS_RETURN_IF_ERROR(observer_->EndStep(head, sums.energy));
    ISTHMUS_ASSIGN_OR_RETURN(decrease, LossDecrease::Begin(optimizer_));
  }
  if (loss.changes_gradient()) {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kHead, seconds_);
    const double energy = std::accumulate(sums.energy.begin(), sums.energy.end(), 0.0);
    ISTHMUS_RETURN_IF_ERROR(loss.ChangeGradient(scale * scale * energy));
  }
  {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kOptimizer, seconds_);
    FaultPoint("step.optimizer");
    ISTHMUS_RETURN_IF_ERROR(optimizer_.Update(request.step, request.learning_rate, ClipFactor(result.gradient_norm)));
    const TraceRange range(stream_, "weights");
    ISTHMUS_RETURN_IF_ERROR(reducer_->GatherWeights(parameters().weights()));
  }
  if (request.measure) {
    const PhaseTimer::Scope phase(*timer_, StepPhase::kTelemetry, seconds_);
    // The host's work may run beside the device's.
    if (!stream_.dry()) observer_->Conclude();
    if (loss.changes_gradient()) ISTHMUS_RETURN_IF_ERROR(loss.RestoreGradient());
    ISTHMUS_ASSIGN_OR_RETURN(result.decrease, decrease->End(mesh_));
    ISTHMUS_ASSIGN_OR_RETURN(result.head_losses, HeadLosses(sums, scale));
  }
  return absl::OkStatus();
}

absl::StatusOr<HeadLossValues> TrainingModel::HeadLosses(const LossSums& sums, double scale) const {
  const ChunkedLoss& loss = model_->loss();
  HeadLossValues values = loss.head_losses();
  std::vector<double> means = {scale * sums.z_loss};
  for (const double sum : sums.future) means.push_back(scale * sum);
  const bool later_targets = !loss.future_weights().empty(), z_loss = loss.form().z_loss != 0;
  if (!z_loss && !later_targets) return values;
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(means)));
  if (z_loss) values.z_loss = means.front();
  if (!later_targets) return values;
  for (int64_t offset = 1; offset <= loss.offsets(); ++offset) {
    values.future.push_back(loss.trains_offset(offset) ? std::optional(means[static_cast<size_t>(offset)])
                                                       : std::nullopt);
  }
  return values;
}

std::vector<NamedTensor> TrainingModel::NamedWeights() const {
  std::vector<NamedTensor> tensors;
  for (int spec = 0; spec < static_cast<int>(parameters().specs().size()); ++spec) {
    tensors.push_back({parameters().specs()[static_cast<size_t>(spec)].name, parameters().Weight(spec)});
  }
  return tensors;
}

std::vector<NamedTensor> TrainingModel::NamedGradients() const {
  std::vector<NamedTensor> tensors;
  for (int spec = static_cast<int>(parameters().specs().size()) - 1; spec >= 0; --spec) {
    tensors.push_back({parameters().specs()[static_cast<size_t>(spec)].name, parameters().Gradient(spec)});
  }
  return tensors;
}

absl::StatusOr<NonFiniteTensors> TrainingModel::FindNonFinite() {
  NonFiniteTensors found;
  found.loss = !loss_finite_;
  // This is the first element of the memory in which the gradients' squares are summed.
  const Tensor scratch = optimizer_.sum_scratch();
  ISTHMUS_ASSIGN_OR_RETURN(found.weight, FirstNonFinite(NamedWeights(), scratch, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(found.activation, FirstNonFinite(model_->backbone().SavedTensors(), scratch, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(found.gradient, FirstNonFinite(NamedGradients(), scratch, stream_));
  return found;
}

absl::StatusOr<NonFiniteTensors> TrainingModel::FindZero() {
  NonFiniteTensors found;
  const Tensor scratch = optimizer_.sum_scratch();
  ISTHMUS_ASSIGN_OR_RETURN(found.weight, FirstZero(NamedWeights(), scratch, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(found.activation, FirstZero(model_->backbone().SavedTensors(), scratch, stream_));
  return found;
}

absl::StatusOr<NonFiniteTensors> TrainingModel::FindLargest() {
  NonFiniteTensors found;
  ISTHMUS_ASSIGN_OR_RETURN(found.gradient, Largest(NamedGradients(), optimizer_.sum_scratch(), stream_));
  return found;
}

absl::StatusOr<double> TrainingModel::Evaluate(const Tensor& ids, const Tensor& targets) {
  ISTHMUS_ASSIGN_OR_RETURN(const Evaluation evaluation, EvaluateTokens(ids, targets, /*scores=*/false));
  return evaluation.loss;
}

absl::StatusOr<TrainingModel::Evaluation> TrainingModel::EvaluateTokens(const Tensor& host_ids,
                                                                        const Tensor& host_targets, bool scores) {
  const int64_t tokens = MicroBatchTokens();
  Evaluation evaluation;
  evaluation.scores.resize(scores ? static_cast<size_t>(host_ids.columns) : 0);
  ISTHMUS_RETURN_IF_ERROR(ids_.Take(host_ids, stream_));
  ISTHMUS_RETURN_IF_ERROR(targets_.Take(host_targets, stream_));
  ISTHMUS_RETURN_IF_ERROR(model_->loss().ResetSums());
  for (int64_t begin = 0; begin + tokens <= host_ids.columns; begin += tokens) {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.Part(begin, tokens, stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.Part(begin, tokens, stream_));
    ISTHMUS_RETURN_IF_ERROR(model_->backbone().Forward(ids));
    Tensor found;
    if (scores) found = Tensor(evaluation.scores.data() + begin, DType::kInt32, 1, tokens);
    ISTHMUS_RETURN_IF_ERROR(model_->loss().Evaluate(model_->backbone().hidden(), targets, ids, found));
  }
  ISTHMUS_ASSIGN_OR_RETURN(LossSums sums, model_->loss().Sums());
  ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Progress());
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(&sums.loss, 1)));
  evaluation.loss = sums.loss / (static_cast<double>(host_ids.columns) * mesh_.data_ranks());
  return evaluation;
}

}  // namespace isthmus
