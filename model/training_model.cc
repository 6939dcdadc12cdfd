#include "model/training_model.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <cmath>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
absl::StatusOr<std::unique_ptr<TrainingModel>> TrainingModel::Create(const proto::RunConfig& config, const Mesh& mesh,
                                                                     Stream& stream) {
  auto model = absl::WrapUnique(new TrainingModel(mesh, stream));
  model->timer_ = std::make_unique<PhaseTimer>(stream);
  const ModelShape shape = ModelShape::From(config.model());
  const TensorShard shard = TensorShard::Of(shape, mesh.tensor_rank(), mesh.tensor_ranks());
  const DType type = ComputeType(config.precision());
  model->clip_norm_ = config.optimizer().clip_norm();

  ISTHMUS_ASSIGN_OR_RETURN(
      model->parameters_, ParameterStore::Create(ParameterTable::Build(shape, shard, mesh.data_ranks()), type, stream));
  const Transformer::Options options = {.sequences = config.batch().micro_batch(),
                                        .sequence_length = config.data().sequence_length(),
                                        .sequence_parallel = config.mesh().sequence_parallel(),
                                        .recompute = config.precision().recompute(),
                                        .fp8 = config.precision().fp8_layers()};
  ISTHMUS_ASSIGN_OR_RETURN(model->transformer_,
                           Transformer::Create(shape, model->parameters_, mesh.tensor(), options, stream));
  const HeadLoss::Options head_options = {.tokens = options.sequences * options.sequence_length,
                                          .loss_chunk = config.precision().loss_chunk()};
  ISTHMUS_ASSIGN_OR_RETURN(
      model->head_, HeadLoss::Create(shape, model->parameters_, model->transformer_->region(), head_options, stream));
  const ParameterTable& table = model->parameters_.table();
  const auto bucket_bytes = static_cast<int64_t>(config.mesh().bucket_mebibytes() * 1024 * 1024);
  ISTHMUS_ASSIGN_OR_RETURN(GradientReducer reducer,
                           GradientReducer::Create(mesh.data(), model->parameters_.gradients(), table.segments,
                                                   bucket_bytes, config.mesh().shard_optimizer()));
  model->reducer_ = std::make_unique<GradientReducer>(std::move(reducer));
  ISTHMUS_ASSIGN_OR_RETURN(model->optimizer_,
                           Optimizer::Create(model->parameters_, model->reducer_->owned(), config.optimizer(), stream));
  ISTHMUS_ASSIGN_OR_RETURN(model->decomposition_,
                           HeadDecomposition::Create(shape.vocabulary, shape.head_width(), mesh, stream));

  int64_t owned = 0;
  for (const Range& range : model->reducer_->owned()) owned += range.size();
  model->memory_ = {.weights = model->parameters_.weights().bytes(),
                    .gradients = model->parameters_.gradients().bytes(),
                    .optimizer = Optimizer::StateBytes(owned, type),
                    .activations = Transformer::ActivationBytes(shape, shard, type, options, stream.device()),
                    .head = HeadLoss::WorkspaceBytes(shape, shard, type, head_options)};
  return model;
}

absl::Status TrainingModel::InitializeWeights(uint64_t seed) {
  ISTHMUS_RETURN_IF_ERROR(parameters_.Initialize(seed));
  return optimizer_.InitializeMasters(seed);
}

absl::Status TrainingModel::MicroBatch(const Tensor& ids, const Tensor& targets, double scale, bool last,
                                       bool measure_head, StepSeconds& seconds) {
  {
    const PhaseTimer::Scope phase(*timer_, "forward", seconds.forward);
    ISTHMUS_RETURN_IF_ERROR(transformer_->Forward(ids));
  }
  {
    const PhaseTimer::Scope phase(*timer_, "head", seconds.head);
    ISTHMUS_RETURN_IF_ERROR(head_.Train(transformer_->hidden(), targets, scale, transformer_->grad_hidden()));
  }
  if (measure_head) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", seconds.telemetry);
    ISTHMUS_RETURN_IF_ERROR(decomposition_.AddMicroBatch(head_));
  }
  const PhaseTimer::Scope phase(*timer_, "backward", seconds.backward);
  Transformer::SegmentReady segment_ready;
  if (last) segment_ready = [this](int segment) { return reducer_->SegmentReady(segment); };
  return transformer_->Backward(ids, segment_ready);
}

absl::StatusOr<StepResult> TrainingModel::Step(const Tensor& host_ids, const Tensor& host_targets, int64_t step,
                                               double learning_rate, bool measure_head) {
  StepResult result;
  const int64_t tokens = MicroBatchTokens(), micro_batches = host_ids.columns / tokens;
  if (host_ids.columns != host_targets.columns || micro_batches < 1 || host_ids.columns % tokens != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a step's ids and targets must be whole micro-batches of ", tokens,
                                                   " tokens; found ", host_ids.Describe(), " and ",
                                                   host_targets.Describe()));
  }
  timer_->Reset();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.OnDevice(host_ids, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.OnDevice(host_targets, stream_));
  const double scale = 1.0 / (static_cast<double>(ids.columns) * mesh_.data_ranks());
  ISTHMUS_RETURN_IF_ERROR(SetZero(parameters_.gradients(), stream_));
  if (measure_head) ISTHMUS_RETURN_IF_ERROR(decomposition_.Reset());

  ISTHMUS_RETURN_IF_ERROR(head_.ResetSums());
  for (int64_t index = 0; index < micro_batches; ++index) {
    ISTHMUS_RETURN_IF_ERROR(MicroBatch(ids.ColumnSlice(index * tokens, tokens),
                                       targets.ColumnSlice(index * tokens, tokens), scale, index + 1 == micro_batches,
                                       measure_head, result.seconds));
  }
  HeadLossSums sums;
  {
    const PhaseTimer::Scope phase(*timer_, "reduce", result.seconds.reduce);
    ISTHMUS_RETURN_IF_ERROR(reducer_->Finish());
    ISTHMUS_ASSIGN_OR_RETURN(sums, head_.Sums());
    ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(&sums.loss, 1)));
    result.loss = sums.loss * scale;
    ISTHMUS_ASSIGN_OR_RETURN(result.gradient_norm, optimizer_.GradientNorm(mesh_));
  }
  // Every rank sees the same bits, hence decides the same, before a weight changes.
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    return absl::AbortedError(absl::StrCat("step ", step, ": loss ", result.loss, ", gradient norm ",
                                           result.gradient_norm,
                                           "; training diverged: lower optimizer.learning_rate, lengthen "
                                           "schedule.warmup_steps or use precision.compute FP32"));
  }
  if (measure_head) {
    const PhaseTimer::Scope phase(*timer_, "telemetry", result.seconds.telemetry);
    ISTHMUS_ASSIGN_OR_RETURN(result.head, decomposition_.Measure(head_, sums.energy, scale));
  }
  {
    const PhaseTimer::Scope phase(*timer_, "optimizer", result.seconds.optimizer);
    const bool clip = clip_norm_ > 0 && result.gradient_norm > clip_norm_;
    ISTHMUS_RETURN_IF_ERROR(optimizer_.Update(step, learning_rate, clip ? clip_norm_ / result.gradient_norm : 1.0));
    ISTHMUS_RETURN_IF_ERROR(reducer_->GatherWeights(parameters_.weights()));
  }
  ISTHMUS_RETURN_IF_ERROR(timer_->Collect());
  return result;
}

absl::StatusOr<double> TrainingModel::Evaluate(const Tensor& host_ids, const Tensor& host_targets) {
  const int64_t tokens = MicroBatchTokens();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids, ids_.OnDevice(host_ids, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor targets, targets_.OnDevice(host_targets, stream_));
  ISTHMUS_RETURN_IF_ERROR(head_.ResetSums());
  for (int64_t begin = 0; begin + tokens <= ids.columns; begin += tokens) {
    ISTHMUS_RETURN_IF_ERROR(transformer_->Forward(ids.ColumnSlice(begin, tokens)));
    ISTHMUS_RETURN_IF_ERROR(head_.Evaluate(transformer_->hidden(), targets.ColumnSlice(begin, tokens)));
  }
  ISTHMUS_ASSIGN_OR_RETURN(HeadLossSums sums, head_.Sums());
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(&sums.loss, 1)));
  return sums.loss / (static_cast<double>(ids.columns) * mesh_.data_ranks());
}

}  // namespace isthmus
