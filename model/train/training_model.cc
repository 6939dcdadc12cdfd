#include "model/train/training_model.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// To host memory, fp32 or fp64.
absl::Status CopyWidened(const Tensor& from, const Tensor& to, const Stream& stream) {
  if (from.dtype == to.dtype) return CopyToHost(from, to, stream);
  std::vector<char> bytes(static_cast<size_t>(from.bytes()));
  const Tensor copy(bytes.data(), from.dtype, from.rows, from.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(from, copy, stream));
  Stream host;
  return Cast({.x = copy, .y = to}, host);
}

// The first matrix among the parameters of a segment, which begin with norms.
int FirstMatrix(const ParameterStore& parameters, int segment) {
  const auto found = std::find_if(parameters.specs().begin(), parameters.specs().end(),
                                  [&](const ParameterSpec& spec) { return spec.segment == segment && spec.rows > 1; });
  return static_cast<int>(found - parameters.specs().begin());
}

HeadDump::Matrix MakeRoom(DType type, int64_t rows, int64_t columns) {
  return {type, rows, columns, std::vector<char>(static_cast<size_t>(rows * columns * SizeOf(type)))};
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingModel>> TrainingModel::Create(const proto::RunConfig& config, const Mesh& mesh,
                                                                     Stream& stream,
                                                                     absl::Span<const uint64_t> token_counts) {
  auto model = absl::WrapUnique(new TrainingModel(mesh, stream));
  const Communicator::Record record = mesh.world().record();
  model->timer_ = std::make_unique<PhaseTimer>(stream, record.ring == nullptr ? nullptr : &record.ring->whereabouts());
  model->clip_norm_ = config.optimizer().clip_norm();

  ISTHMUS_ASSIGN_OR_RETURN(model->model_, Model::Build(config, mesh, stream, Purpose::Training(config)));
  const ParameterStore& parameters = model->parameters();
  const ParameterTable& table = parameters.table();
  const auto bucket_bytes = static_cast<int64_t>(config.mesh().bucket_mebibytes() * 1024 * 1024);
  ISTHMUS_ASSIGN_OR_RETURN(GradientReducer reducer,
                           GradientReducer::Create(mesh.data(), parameters.gradients(), table.segments, bucket_bytes,
                                                   config.mesh().shard_optimizer()));
  model->reducer_ = std::make_unique<GradientReducer>(std::move(reducer));
  ISTHMUS_ASSIGN_OR_RETURN(model->optimizer_,
                           Optimizer::Create(parameters, model->reducer_->owned(), config.optimizer(), stream));
  if (MeasuresHead(config)) {
    ISTHMUS_ASSIGN_OR_RETURN(
        model->decomposition_,
        HeadDecomposition::Create(MeasurementShape::Of(config, mesh.tensor_rank(), stream.device()), token_counts, mesh,
                                  stream));
  }
  ISTHMUS_RETURN_IF_ERROR(model->ids_.Reserve(model->MicroBatchTokens(), stream.device()));
  ISTHMUS_RETURN_IF_ERROR(model->targets_.Reserve(model->MicroBatchTokens(), stream.device()));
  model->registered_.push_back(mesh.data().Register(parameters.gradients()));
  if (config.mesh().shard_optimizer()) model->registered_.push_back(mesh.data().Register(parameters.weights()));
  model->capture_ = model->CanCapture(config.cuda());
  return model;
}

bool TrainingModel::CanCapture(const proto::CudaConfig& config) const {
  if (!config.graph() || stream_.device() == Device::kCpu) return false;
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
          .decomposition = decomposition_ == nullptr ? 0 : decomposition_->bytes(),
          .tokens = ids_.bytes() + targets_.bytes(),
          .scratch = StreamScratchBytes(stream_.device())};
}

absl::Status TrainingModel::InitializeWeights(uint64_t seed) {
  ISTHMUS_RETURN_IF_ERROR(parameters().Initialize(seed));
  return optimizer_.Initialize(seed);
}

absl::Status TrainingModel::MicroBatch(const Tensor& ids, const Tensor& targets, const MicroBatchKind& kind) {
  Backbone& backbone = model_->backbone();
  ChunkedLoss& loss = model_->loss();
  {
    const PhaseTimer::Scope phase(*timer_, "forward", seconds_.forward);
    FaultPoint("step.forward");
    ISTHMUS_RETURN_IF_ERROR(backbone.Forward(ids));
  }
  if (dump_ != nullptr) {
    const Tensor& hidden = backbone.hidden();
    const Tensor part = dump_->hidden.tensor().RowSlice(dumped_tokens_, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(CopyWidened(hidden, part, stream_));
    dumped_tokens_ += hidden.rows;
  }
  {
    const PhaseTimer::Scope phase(*timer_, "head", seconds_.head);
    ISTHMUS_RETURN_IF_ERROR(loss.Train(backbone.hidden(), targets, kind.scale, backbone.grad_hidden(),
                                       kind.measure_head ? &decomposition_->head_observation() : nullptr));
  }
  if (kind.measure_head) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, loss.View());
    ISTHMUS_RETURN_IF_ERROR(decomposition_->AddMicroBatch(head, backbone.hidden(), targets));
  }
  {
    const PhaseTimer::Scope phase(*timer_, "backward", seconds_.backward);
    FaultPoint("step.backward");
    Backbone::SegmentReady segment_ready;
    if (kind.last) segment_ready = [this](int segment) { return SegmentReady(segment); };
    ISTHMUS_RETURN_IF_ERROR(backbone.Backward(
        ids, segment_ready, kind.measure_head ? decomposition_->backward_observation() : Backbone::Observation()));
  }
  if (!kind.last) return absl::OkStatus();
  const PhaseTimer::Scope phase(*timer_, "reduce", seconds_.reduce);
  FaultPoint("step.reduce");
  return reducer_->Finish();
}

absl::Status TrainingModel::SegmentReady(int segment) {
  // A matrix of the first layer: by then all buckets but the last are on their way.
  if (segment == 1) FaultPoint("step.gradients", parameters().Gradient(FirstMatrix(parameters(), segment)), stream_);
  return reducer_->SegmentReady(segment);
}

absl::Status TrainingModel::Capture(const Tensor& ids, const Tensor& targets, const MicroBatchKind& kind,
                                    Recurring& recurring) {
  auto work = CapturedWork::Capture(stream_, [&] { return MicroBatch(ids, targets, kind); });
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

absl::Status TrainingModel::RunMicroBatch(const Tensor& ids, const Tensor& targets, const MicroBatchKind& kind) {
  if (!capture_ || dump_ != nullptr) return MicroBatch(ids, targets, kind);
  // The first time libraries prepare what a capture must find ready.
  const auto [found, first] = recurring_.try_emplace(kind);
  if (first) return MicroBatch(ids, targets, kind);
  Recurring& recurring = found->second;
  if (recurring.work == nullptr) ISTHMUS_RETURN_IF_ERROR(Capture(ids, targets, kind, recurring));
  if (!capture_) return MicroBatch(ids, targets, kind);
  ISTHMUS_RETURN_IF_ERROR(recurring.work->Start());
  timer_->Replayed(recurring.phases);
  ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Replayed());
  return mesh_.data().Replayed();
}

absl::Status TrainingModel::BeginDump(const Tensor& host_targets, HeadDump& dump) {
  const DType type = AccumulationType(parameters().compute_type());
  ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, model_->loss().View());
  const auto copy = [&](const Tensor& from, HeadDump::Matrix& to) {
    to = MakeRoom(type, from.rows, from.columns);
    return CopyWidened(from, to.tensor(), stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(copy(head.weight, dump.weight));
  if (head.down != nullptr) ISTHMUS_RETURN_IF_ERROR(copy(head.down->weight, dump.down));
  dump.hidden = MakeRoom(type, host_targets.columns, model_->backbone().hidden().columns);
  const auto* targets = host_targets.As<int32_t>();
  dump.targets.assign(targets, targets + host_targets.columns);
  return absl::OkStatus();
}

absl::Status TrainingModel::MeasuredMicroBatch(int64_t begin, const Tensor& host_targets, const MicroBatchKind& kind) {
  const int64_t tokens = MicroBatchTokens();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.Part(begin, tokens, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.Part(begin, tokens, stream_));
  if (kind.measure_head) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
    ISTHMUS_RETURN_IF_ERROR(decomposition_->BeginMicroBatch(begin / tokens));
  }
  ISTHMUS_RETURN_IF_ERROR(RunMicroBatch(ids, targets, kind));
  if (!kind.measure_head) return absl::OkStatus();
  const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
  return decomposition_->EndMicroBatch(host_targets.ColumnSlice(begin, tokens));
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
      MicroBatch(ids, targets, {.last = false, .measure_head = decomposition_ != nullptr, .scale = 1}));
  return stream_.Synchronize();
}

absl::StatusOr<StepResult> TrainingModel::Step(const StepRequest& request) {
  const Tensor &host_ids = request.ids, &host_targets = request.targets;
  const int64_t step = request.step;
  StepResult result;
  const int64_t tokens = MicroBatchTokens(), micro_batches = host_ids.columns / tokens;
  if (host_ids.columns != host_targets.columns || micro_batches < 1 || host_ids.columns % tokens != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a step's ids and targets must be whole micro-batches of ", tokens,
                                                   " tokens; found ", host_ids.Describe(), " and ",
                                                   host_targets.Describe()));
  }
  if (request.measure && decomposition_ == nullptr) {
    return absl::InvalidArgumentError(
        "a model whose run never measures its head can't measure it (telemetry.interval)");
  }
  timer_->Reset();
  seconds_ = {};
  dump_ = request.dump;
  dumped_tokens_ = 0;
  if (dump_ != nullptr) ISTHMUS_RETURN_IF_ERROR(BeginDump(host_targets, *dump_));
  ISTHMUS_RETURN_IF_ERROR(ids_.Take(host_ids, stream_));
  ISTHMUS_RETURN_IF_ERROR(targets_.Take(host_targets, stream_));
  const double scale = 1.0 / (static_cast<double>(host_ids.columns) * mesh_.data_ranks());
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = parameters().gradients()}, stream_));
  if (request.measure) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, model_->loss().View());
    ISTHMUS_RETURN_IF_ERROR(
        decomposition_->BeginStep(head, step, host_ids.columns, /*fresh=*/request.last || dump_ != nullptr));
  }
  ISTHMUS_RETURN_IF_ERROR(model_->loss().ResetSums());
  for (int64_t index = 0; index < micro_batches; ++index) {
    ISTHMUS_RETURN_IF_ERROR(
        MeasuredMicroBatch(index * tokens, host_targets,
                           {.last = index + 1 == micro_batches, .measure_head = request.measure, .scale = scale}));
  }
  LossSums sums;
  {
    const PhaseTimer::Scope phase(*timer_, "reduce", seconds_.reduce);
    ISTHMUS_ASSIGN_OR_RETURN(sums, model_->loss().Sums());
    FaultPoint("step.loss", Tensor(&sums.loss, DType::kFloat64, 1, 1), Stream());
    loss_finite_ = std::isfinite(sums.loss);
    ISTHMUS_ASSIGN_OR_RETURN(const Optimizer::GradientSquares squares, optimizer_.SquaresOfGradients());
    // Of a group that failed on a GPU all waits have ended, without sums.
    ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Progress());
    ISTHMUS_RETURN_IF_ERROR(mesh_.data().Progress());
    ISTHMUS_ASSIGN_OR_RETURN(static_cast<StepFigures&>(result),
                             AgreeOnFigures({sums.loss, squares, optimizer_.sharded()}, scale, mesh_));
  }
  const bool clip = clip_norm_ > 0 && result.gradient_norm > clip_norm_;
  const double grad_scale = clip ? clip_norm_ / result.gradient_norm : 1.0;
  result.too_large = result.finite() && !optimizer_.CanTake(result.gradient_norm, grad_scale);
  result.applied = result.sound() && (!request.accept || request.accept(result));
  if (!result.applied) {
    ISTHMUS_RETURN_IF_ERROR(timer_->Collect());
    result.seconds = seconds_;
    return result;
  }
  if (request.measure) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
    ISTHMUS_RETURN_IF_ERROR(reducer_->GatherGradients(parameters().table().ElementsOf(model_->loss().parameter())));
    ISTHMUS_ASSIGN_OR_RETURN(const HeadView head, model_->loss().View());
    ISTHMUS_RETURN_IF_ERROR(decomposition_->EndStep(head, sums.energy));
  }
  {
    const PhaseTimer::Scope phase(*timer_, "optimizer", seconds_.optimizer);
    FaultPoint("step.optimizer");
    ISTHMUS_RETURN_IF_ERROR(optimizer_.Update(step, request.learning_rate, grad_scale));
    ISTHMUS_RETURN_IF_ERROR(reducer_->GatherWeights(parameters().weights()));
  }
  if (request.measure) {  // by the host, while a GPU is at the optimizer's work
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds_.telemetry);
    HeadDecomposition::Result measured = decomposition_->Figures();
    result.head = std::move(measured.head);
    result.layer_gradient_norms = std::move(measured.layer_gradient_norms);
  }
  ISTHMUS_RETURN_IF_ERROR(timer_->Collect());
  result.seconds = seconds_;
  return result;
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
  // The first element of what the gradients' squares are summed in.
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

absl::StatusOr<double> TrainingModel::Evaluate(const Tensor& host_ids, const Tensor& host_targets) {
  const int64_t tokens = MicroBatchTokens();
  ISTHMUS_RETURN_IF_ERROR(ids_.Take(host_ids, stream_));
  ISTHMUS_RETURN_IF_ERROR(targets_.Take(host_targets, stream_));
  ISTHMUS_RETURN_IF_ERROR(model_->loss().ResetSums());
  for (int64_t begin = 0; begin + tokens <= host_ids.columns; begin += tokens) {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.Part(begin, tokens, stream_));
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.Part(begin, tokens, stream_));
    ISTHMUS_RETURN_IF_ERROR(model_->backbone().Forward(ids));
    ISTHMUS_RETURN_IF_ERROR(model_->loss().Evaluate(model_->backbone().hidden(), targets));
  }
  ISTHMUS_ASSIGN_OR_RETURN(LossSums sums, model_->loss().Sums());
  ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().Progress());
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(&sums.loss, 1)));
  return sums.loss / (static_cast<double>(host_ids.columns) * mesh_.data_ranks());
}

}  // namespace isthmus
