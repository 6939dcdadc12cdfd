#include "launch/run/training_run.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/rotation.h"
#include "checkpoint/weights.h"
#include "launch/choose_device.h"
#include "launch/run/agreed_stop.h"
#include "launch/run/head_dump_files.h"
#include "launch/run/head_record.h"
#include "launch/run/matmul_search.h"
#include "launch/run/run_sinks.h"
#include "launch/run/step_record.h"
#include "model/decomposition/token_sample.h"
#include "model/flops.h"
#include "model/schedule.h"
#include "ops/matmul_peak.h"
#include "runtime/config.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/fault_point.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

double MonotonicSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// "5.02 million"; what that would round away is written as it is.
std::string CountText(int64_t count) {
  return count < 100'000 ? absl::StrCat(count) : absl::StrFormat("%.2f million", static_cast<double>(count) / 1e6);
}

// Empty where enough tokens are sampled for a spectrum that tells heads apart, or none are.
std::string SampleWarning(const proto::RunConfig& config) {
  const auto& telemetry = config.telemetry();
  const int64_t width = config.model().head_rank() > 0 ? config.model().head_rank() : config.model().width();
  const int64_t tokens = config.batch().sequences() * config.data().sequence_length();
  const int64_t sampled = TokenSample::Of(tokens, telemetry.sample_tokens()).count;
  if (telemetry.interval() == 0 && telemetry.dump_step() == 0) return "";
  if (sampled > width) return "";
  const bool set = telemetry.sample_tokens() <= width;
  return absl::StrCat(set ? "telemetry.sample_tokens (" : "the number of tokens sampled of a step (",
                      set ? telemetry.sample_tokens() : sampled, ") is not above the head's width (", width,
                      "): best_rank_energy_ratio would be 1 and is left out");
}

absl::Status CheckFp8(const Stream& stream, const std::string& source) {
  if (stream.device() == Device::kCpu) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const CudaDevice device, StreamDevice(stream));
  return CheckFp8Device(device, source);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::Create(proto::RunConfig config, const std::string& source,
                                                                 const std::string& resume, const StopSignals& signals,
                                                                 RankWatch& watch, Communicator& world, int local_rank,
                                                                 std::ostream& progress, bool progress_is_terminal) {
  auto run = absl::WrapUnique(new TrainingRun(signals, watch, world, progress, progress_is_terminal));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, ResolveConfig(config, world.size(), source)));
  run->config_ = std::move(config);
  run->local_rank_ = local_rank;
  const auto& mesh = run->config_.mesh();
  world.set_deadline(absl::Seconds(mesh.setup_timeout_seconds()));
  ISTHMUS_ASSIGN_OR_RETURN(ChosenDevice device, ChooseDevice(run->config_.device(), run->config_.precision().compute(),
                                                             local_rank, world, source));
  run->stream_ = std::move(device.stream);
  if (run->config_.precision().fp8_layers()) {
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, CheckFp8(run->stream_, source)));
  }
  run->device_name_ = std::move(device.name);
  run->peak_flops_ = device.peak_flops;
  ISTHMUS_ASSIGN_OR_RETURN(run->mesh_, Mesh::Create(world, mesh.tensor(), mesh.data(), run->stream_,
                                                    absl::Seconds(mesh.setup_timeout_seconds())));
  run->mesh_->set_deadline(absl::Seconds(mesh.setup_timeout_seconds()));
  watch.whereabouts().Enter("opening data");
  FaultPoint("setup.data");
  ISTHMUS_RETURN_IF_ERROR(run->OpenData(source));
  ISTHMUS_RETURN_IF_ERROR(EndIfStopped(signals, world, "the data were opened"));
  ISTHMUS_RETURN_IF_ERROR(run->OpenFolder(resume));
  watch.whereabouts().Enter("building the model");
  FaultPoint("setup.model");
  ISTHMUS_RETURN_IF_ERROR(run->BuildModel());
  ISTHMUS_RETURN_IF_ERROR(EndIfStopped(signals, world, "the model was made"));
  watch.whereabouts().Enter("loading");
  FaultPoint("setup.load");
  ISTHMUS_RETURN_IF_ERROR(run->Continue());
  ISTHMUS_RETURN_IF_ERROR(run->WriteFirstRecord());
  run->mesh_->set_deadline(absl::Seconds(mesh.collective_timeout_seconds()));
  return run;
}

absl::Status TrainingRun::OpenData(const std::string& source) {
  auto data = OpenRunData(config_.data(), config_.data().verify() && world_.rank() == 0, source, signals_);
  absl::Status status = data.status();
  if (status.ok()) {
    data_ = *std::move(data);
    status = ResolveVocabulary(config_, data_.training.dataset->vocabulary(), source);
  }
  return AgreeOnStatus(world_, status);
}

absl::Status TrainingRun::OpenFolder(const std::string& resume) {
  ISTHMUS_ASSIGN_OR_RETURN(plan_, PlanResume(resume, config_.folder(), world_));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, world_.rank() == 0 ? MakeFolder(config_.folder()) : absl::OkStatus()));
  if (!plan_.continued && plan_.candidates.empty()) ISTHMUS_RETURN_IF_ERROR(OpenRecords());
  auto log = Log::Open(config_.folder(), world_.rank());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, log.status()));
  log_ = *std::move(log);
  ISTHMUS_RETURN_IF_ERROR(
      watch_.Start(config_.folder(), absl::Seconds(config_.mesh().collective_timeout_seconds()), world_, log_));
  if (world_.rank() == 0) {
    progress_ = std::make_unique<Progress>(progress_stream_, progress_is_terminal_, config_.schedule().steps());
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::OpenRecords() {
  const int64_t first_step = restored_.has_value() ? restored_->step() + 1 : 0;
  const auto create = [&]() -> absl::Status {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenSinks(config_, 0, local_rank_, first_step, plan_.continued));
    return WriteDurably(config_.folder() + "/config.textproto", ConfigText(config_));
  };
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, world_.rank() == 0 ? create() : absl::OkStatus()));
  if (world_.rank() != 0) {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenSinks(config_, world_.rank(), local_rank_, first_step, plan_.continued));
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Continue() {
  if (!plan_.candidates.empty()) {
    ISTHMUS_RETURN_IF_ERROR(RestoreState());
    ISTHMUS_RETURN_IF_ERROR(EndIfStopped(signals_, world_, "a checkpoint was loaded"));
    if (plan_.continued) ISTHMUS_RETURN_IF_ERROR(SetAsideLaterCheckpoints());
    log_->Info(absl::StrCat("continued after step ", restored_->step()));
  }
  const proto::StabilityState stability = restored_.has_value() ? restored_->stability() : proto::StabilityState();
  stability_ = std::make_unique<Stability>(config_.stability(), stability);
  if (sinks_ == nullptr) ISTHMUS_RETURN_IF_ERROR(OpenRecords());
  checkpoints_ = std::make_unique<RunCheckpoints>(config_, data_, *mesh_, *model_, *log_);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, checkpoints_->Reserve()));
  OpenLoader();
  return absl::OkStatus();
}

absl::Status TrainingRun::RestoreState() {
  ISTHMUS_ASSIGN_OR_RETURN(restored_, Restore(plan_, config_, data_.training, *model_, *mesh_, *log_));
  position_ = restored_->samples() / config_.batch().sequences();
  summary_.steps = restored_->step();
  summary_.tokens = restored_->tokens();
  summary_.validation_loss = restored_->validation_loss();
  if (plan_.continued) summary_.checkpoint = CheckpointFolder(config_.folder(), restored_->step());
  return absl::OkStatus();
}

absl::Status TrainingRun::SetAsideLaterCheckpoints() {
  absl::Status status;
  if (world_.rank() == 0) {
    const auto aside = SetAsideLater(config_.folder(), summary_.steps);
    status = aside.status();
    if (aside.ok() && !aside->empty()) log_->Warning("set aside: " + absl::StrJoin(*aside, ", "));
  }
  return AgreeOnStatus(world_, status);
}

void TrainingRun::OpenLoader() {
  std::vector<int64_t> pass_over = stability_->passed_over();
  pass_over.insert(pass_over.end(), config_.data().pass_over().begin(), config_.data().pass_over().end());
  loader_ =
      std::make_unique<BatchLoader>(data_.training, BatchLoaderOptions{.sequences = config_.batch().sequences(),
                                                                       .data_rank = mesh_->data_rank(),
                                                                       .data_ranks = mesh_->data_ranks(),
                                                                       .seed = config_.seed(),
                                                                       .first_batch = position_ + 1,
                                                                       .pass_over = std::move(pass_over),
                                                                       .prefetch = config_.data().prefetch_batches()});
}

absl::Status TrainingRun::BuildModel() {
  auto model = TrainingModel::Create(config_, *mesh_, stream_, Counts());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, model.status()));
  model_ = *std::move(model);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, model_->InitializeWeights(config_.seed())));
  if (config_.cuda().matmul_search()) {
    ISTHMUS_RETURN_IF_ERROR(
        ChooseMatmulAlgorithms(config_.folder(), world_, stream_, *log_, [this] { return model_->Rehearse(); }));
  }
  const ModelShape shape = ModelShape::From(config_.model());
  causal_flops_per_token_ = CausalFlopsPerToken(shape, config_.data().sequence_length());
  full_flops_per_token_ = FullFlopsPerToken(shape, config_.data().sequence_length());
  if (stream_.device() == Device::kCpu) {
    // All ranks at the same time, as in training: they share caches and power.
    ISTHMUS_RETURN_IF_ERROR(world_.Barrier());
    const auto peak = MeasureMatmulPeak(ComputeType(config_.precision()), absl::Milliseconds(300), stream_);
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, peak.status()));
    peak_flops_ = *peak;
  }
  return world_.AllReduceNumbers(absl::MakeSpan(&peak_flops_, 1));
}

absl::Status TrainingRun::WriteFirstRecord() {
  const MemoryBytes memory = model_->memory();
  proto::TelemetryRecord record;
  record.set_step(0);
  record.set_timestamp_seconds(UnixSeconds());
  auto& run = *record.mutable_run();
  run.set_version(kVersion);
  run.set_parameters(model_->parameters().table().GlobalCount());
  run.set_vocabulary(config_.model().vocabulary());
  run.set_tensor_ranks(mesh_->tensor_ranks());
  run.set_data_ranks(mesh_->data_ranks());
  run.set_threads_per_rank(MaxThreads());
  run.set_training_tokens(data_.training.count * config_.data().sequence_length());
  run.set_validation_tokens(data_.validation.count * config_.data().sequence_length());
  run.set_unigram_entropy(data_.unigram_entropy);
  run.set_log_interval(config_.telemetry().log_interval());
  run.set_device(device_name_);
  if (peak_flops_ > 0) run.set_peak_flops(peak_flops_);
  run.set_causal_flops_per_token(causal_flops_per_token_);
  run.set_full_flops_per_token(full_flops_per_token_);
  run.set_weight_bytes(memory.weights);
  run.set_gradient_bytes(memory.gradients);
  run.set_optimizer_bytes(memory.optimizer);
  run.set_activation_bytes(memory.activations);
  run.set_head_bytes(memory.head);
  const std::string text = absl::StrFormat(
      "%s parameters, vocabulary %d; %d tensor × %d data ranks with %d %s each on %s; %s\n%s training tokens, unigram "
      "entropy %.4f nats per token",
      CountText(run.parameters()), run.vocabulary(), run.tensor_ranks(), run.data_ranks(), run.threads_per_rank(),
      run.threads_per_rank() == 1 ? "thread" : "threads", device_name_,
      peak_flops_ > 0 ? absl::StrFormat("%.1f GFLOP/s matrix product peak", peak_flops_ / 1e9)
                      : "its matrix product peak is not known: no utilisation is given",
      CountText(run.training_tokens()), run.unigram_entropy());
  log_->Info(absl::StrCat("started: version ", kVersion, ", rank ", world_.rank(), " of ", world_.size(),
                          ", tensor rank ", mesh_->tensor_rank(), ", data rank ", mesh_->data_rank(), ", ",
                          MaxThreads(), " threads, on ", device_name_));
  if (world_.rank() == 0) {
    progress_->Note(text);
    if (const std::string warning = SampleWarning(config_); !warning.empty()) Say(warning);
  }
  run_facts_ = run;
  if (restored_.has_value()) {
    // A record of its own would be a second one of the checkpoint's step.
    run.set_resumed_step(restored_->step());
    resumed_run_ = std::move(run);
    if (world_.rank() == 0) progress_->Note(absl::StrCat("continues after step ", restored_->step()));
    return absl::OkStatus();
  }
  Publish(std::move(record));
  return absl::OkStatus();
}

std::vector<uint64_t> TrainingRun::Counts() const {
  std::vector<uint64_t> counts = data_.training.dataset->Counts();
  counts.resize(static_cast<size_t>(config_.model().vocabulary()), 0);
  return counts;
}

double TrainingRun::Elapsed() const { return MonotonicSeconds() - start_seconds_; }

absl::StatusOr<double> TrainingRun::AgreedElapsed() {
  double elapsed = Elapsed();
  ISTHMUS_RETURN_IF_ERROR(world_.Broadcast(Tensor(&elapsed, DType::kFloat64, 1, 1), 0));
  return elapsed;
}

// A set smaller than a batch is seen more than once; of a larger one every sample at most once.
int64_t TrainingRun::ValidationBatches() const {
  return std::clamp<int64_t>(data_.validation.count / config_.batch().sequences(), 1,
                             config_.telemetry().validation_batches());
}

absl::StatusOr<std::optional<double>> TrainingRun::ValidationLoss(bool last) {
  const int64_t sequences = config_.batch().sequences(), batches = ValidationBatches();
  // The same samples each time, chosen by a fixed seed.
  BatchLoader loader(data_.validation, {.sequences = sequences,
                                        .data_rank = mesh_->data_rank(),
                                        .data_ranks = mesh_->data_ranks(),
                                        .seed = 0,
                                        .prefetch = 2});
  double sum = 0;
  for (int64_t i = 0; i < batches; ++i) {
    FaultPoint("evaluate.batch");
    auto batch = loader.Next();
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, batch.status()));
    ISTHMUS_ASSIGN_OR_RETURN(const double loss, model_->Evaluate(batch->ids(), batch->targets()));
    sum += loss;
    loader.Recycle(*std::move(batch));
    if (last) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(signals_, world_));
    if (stop != 0) return std::nullopt;
  }
  return sum / static_cast<double>(batches);
}

absl::Status TrainingRun::TrainStep(int64_t step, bool& last) {
  FaultPoint("step.begin");
  const auto& telemetry = config_.telemetry();
  const auto& schedule = config_.schedule();
  log_->set_step(step);
  watch_.whereabouts().set_step(step);
  watch_.whereabouts().Enter("between phases");
  const auto due = [&](int64_t interval) { return interval > 0 && step % interval == 0; };
  double elapsed = 0;
  if (schedule.max_seconds() > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(elapsed, AgreedElapsed());
  }
  const double learning_rate = LearningRate(schedule, config_.optimizer().learning_rate(), step, elapsed);
  const bool dump_head = step == telemetry.dump_step();
  const bool measure_head =
      dump_head || (telemetry.interval() > 0 && (due(telemetry.interval()) || step == schedule.steps()));

  const double begin = MonotonicSeconds();
  watch_.whereabouts().Enter("data");
  FaultPoint("step.data");
  auto batch = loader_->Next();
  watch_.whereabouts().Enter("between phases");
  const double data_seconds = MonotonicSeconds() - begin;
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, batch.status()));
  HeadDump dump;
  const auto accept = [this](const StepFigures& figures) { return stability_->Accepts(figures); };
  ISTHMUS_ASSIGN_OR_RETURN(const StepResult result, model_->Step(batch->ids(), batch->targets(), step, learning_rate,
                                                                 measure_head, dump_head ? &dump : nullptr, accept,
                                                                 /*last=*/step == schedule.steps()));
  const int64_t number = batch->number;
  loader_->Recycle(*std::move(batch));
  if (!result.applied) return Refuse(step, number, result);
  stability_->Applied(result);
  position_ = number;
  if (dump_head) {
    const std::string folder = absl::StrFormat("%s/head-step-%08d", config_.folder(), step);
    ISTHMUS_RETURN_IF_ERROR(WriteHeadDump(folder, dump, Counts(), *mesh_));
    log_->Info("dumped the head's tensors to " + folder);
  }
  const double step_seconds = MonotonicSeconds() - begin;
  stragglers_.AddStep(result.seconds, data_seconds, watch_.whereabouts());
  CountStep(step_seconds, step_times_);

  for (const std::string& note : stream_.TakeNotes()) log_->Info(note);
  LogNotes();

  last = step == schedule.steps();
  if (!last && schedule.max_seconds() > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(elapsed, AgreedElapsed());
    last = elapsed >= schedule.max_seconds();
  }
  summary_.steps = step;
  summary_.tokens = step * TokensPerStep();
  summary_.train_loss = result.loss;
  if (result.head.has_value()) {
    summary_.head = result.head;
    if (!result.head->not_measured.empty() && world_.rank() == 0 && !std::exchange(told_of_head_, true)) {
      log_->Warning("head not measured: " + result.head->not_measured);
    }
  }

  const bool validate = last || due(telemetry.validation_interval());
  proto::TelemetryRecord record;
  if (validate) {
    watch_.whereabouts().Enter("evaluation");
    ISTHMUS_ASSIGN_OR_RETURN(const std::optional<double> loss, ValidationLoss(last));
    if (loss.has_value()) {
      summary_.validation_loss = *loss;
      record.mutable_validation()->set_loss(*loss);
      record.mutable_validation()->set_tokens(ValidationBatches() * TokensPerStep());
    } else {
      log_->Info("no validation of this step: a signal ended it");
    }
  }
  if (!last && !validate && !measure_head && !due(telemetry.log_interval()) && !checkpoints_->Due(step, last)) {
    return absl::OkStatus();
  }

  const double tokens_per_second = static_cast<double>(TokensPerStep()) / step_seconds;
  record.set_step(step);
  record.set_tokens(summary_.tokens);
  record.set_elapsed_seconds(Elapsed());
  record.set_timestamp_seconds(UnixSeconds());
  auto& train = *record.mutable_train();
  train.set_loss(result.loss);
  train.set_gradient_norm(result.gradient_norm);
  train.set_learning_rate(learning_rate);
  train.set_step_seconds(step_seconds);
  train.set_tokens_per_second(tokens_per_second);
  if (peak_flops_ > 0) {
    train.set_causal_utilisation_ratio(tokens_per_second * causal_flops_per_token_ / peak_flops_);
    train.set_full_utilisation_ratio(tokens_per_second * full_flops_per_token_ / peak_flops_);
  }
  stability_->FillRecord(*record.mutable_stability());
  ISTHMUS_RETURN_IF_ERROR(FillTimeRecord(result.seconds, data_seconds, world_, *record.mutable_time()));
  ISTHMUS_RETURN_IF_ERROR(FillRanks(record));
  *record.mutable_time()->mutable_step_seconds() = std::exchange(step_times_, {});
  if (result.head.has_value()) {
    FillHeadRecord(*result.head, *record.mutable_head());
    FillLayerRecords(result.layer_gradient_norms, record);
  }
  if (EveryRankIsShown(config_)) {
    FillRankRecord(result.seconds, data_seconds, *mesh_, world_.rank(), *record.mutable_rank());
  }
  if (world_.rank() == 0) {
    double remaining =
        record.elapsed_seconds() / static_cast<double>(step) * static_cast<double>(schedule.steps() - step);
    if (schedule.max_seconds() > 0) remaining = std::min(remaining, schedule.max_seconds() - record.elapsed_seconds());
    progress_->Update(record, last ? 0 : remaining, last);
  }
  if (resumed_run_.has_version()) record.mutable_run()->Swap(&resumed_run_);
  record_ = std::move(record);
  return absl::OkStatus();
}

absl::Status TrainingRun::FillRanks(proto::TelemetryRecord& record) {
  if (world_.size() == 1) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> warnings, stragglers_.FillRecord(world_, record));
  for (const std::string& warning : warnings) log_->Warning(warning);
  record.mutable_ranks()->set_stale_heartbeats_total(watch_.stale_heartbeats());
  return absl::OkStatus();
}

void TrainingRun::Publish(proto::TelemetryRecord record) {
  if (world_.rank() != 0) {
    if (!record.has_rank()) return;
    proto::TelemetryRecord own;
    *own.mutable_rank() = std::move(*record.mutable_rank());
    record = std::move(own);
  }
  sinks_->Publish(std::move(record));
}

void TrainingRun::LogNotes() {
  for (const std::string& note : sinks_->TakeNotes()) log_->Info(note);
}

TrainingMoment TrainingRun::Moment() const {
  TrainingMoment moment{.step = summary_.steps,
                        .tokens = summary_.tokens,
                        .batches = position_,
                        .elapsed_seconds = Elapsed(),
                        .stability = stability_->state()};
  if (record_.has_validation()) moment.validation_loss = summary_.validation_loss;
  return moment;
}

void TrainingRun::PublishRecord() {
  if (!record_.has_step()) return;
  checkpoints_->FillRecord(record_);
  if (world_.rank() == 0 && record_.checkpoint().has_failed_total() && !record_.checkpoint().has_step()) {
    progress_->Note("a checkpoint could not be saved; the log says why");
  }
  Publish(std::exchange(record_, {}));
}

absl::Status TrainingRun::TrainSteps() {
  const double elapsed = restored_.has_value() ? restored_->elapsed_seconds() : 0;
  start_seconds_ = MonotonicSeconds() - elapsed;
  const auto& schedule = config_.schedule();
  bool last = summary_.steps >= schedule.steps() || (schedule.max_seconds() > 0 && elapsed >= schedule.max_seconds());
  summary_.already_complete = last;
  if (!last) ISTHMUS_RETURN_IF_ERROR(EndIfStopped(signals_, world_, "everything was set up"));
  while (!last) {
    const int64_t step = summary_.steps + 1;
    ISTHMUS_RETURN_IF_ERROR(TrainStep(step, last));
    watch_.whereabouts().Enter("between steps");
    FaultPoint("step.end");
    if (summary_.steps != step) continue;  // refused
    ISTHMUS_RETURN_IF_ERROR(checkpoints_->Poll());
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(signals_, world_));
    const bool ends = last || stop != 0;
    if (checkpoints_->Due(step, last) || (stop != 0 && !last)) {
      watch_.whereabouts().Enter("saving a checkpoint");
      const TrainingMoment moment = Moment();
      // A run that is killed once the checkpoint is complete does not make the step's record again.
      if (!ends) PublishRecord();
      ISTHMUS_RETURN_IF_ERROR(checkpoints_->Save(moment, ends));
    }
    if (!last && stop != 0) {
      return absl::CancelledError(absl::StrCat("stopped by ", SignalName(stop), " after step ", step, "; saved ",
                                               checkpoints_->newest(), "; start again with --resume auto"));
    }
    if (!last) PublishRecord();
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Train() {
  ISTHMUS_RETURN_IF_ERROR(world_.Barrier());
  absl::Status status = TrainSteps();
  watch_.whereabouts().Enter("ending");
  // What has been begun is ended, whatever ended training, but for a rank that is lost.
  if (ExitStatusOf(status.code()) != kExitRankFailed) status.Update(checkpoints_->Wait());
  if (!checkpoints_->newest().empty()) summary_.checkpoint = checkpoints_->newest();
  PublishRecord();
  summary_.seconds = Elapsed();
  sinks_->Close(Sinks::kCloseDeadline);
  LogNotes();
  if (absl::IsCancelled(status)) {
    log_->Info(std::string(status.message()));
    return status;
  }
  if (!status.ok()) {
    log_->Error(std::string(status.message()));
    return status;
  }
  log_->Info(absl::StrFormat("done: %d steps in %.1f s, loss %.6f, validation loss %.6f", summary_.steps,
                             summary_.seconds, summary_.train_loss, summary_.validation_loss));
  return absl::OkStatus();
}

}  // namespace isthmus
