// What a run does before its first step: data, folder, model, and what it continues from.
#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/rotation.h"
#include "launch/choose_device.h"
#include "launch/run/agreed_stop.h"
#include "launch/run/count_text.h"
#include "launch/run/matmul_search.h"
#include "launch/run/run_sinks.h"
#include "launch/run/step_record.h"
#include "launch/run/training_run.h"
#include "model/heads/heads.h"
#include "model/model.h"
#include "model/model_shape.h"
#include "ops/matmul_peak.h"
#include "runtime/config.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/fault_point.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

// For the run that had the folder before. A server of NFS lets go of a dead node's locks after 90 s.
constexpr absl::Duration kLockPatience = absl::Seconds(120);

// Empty where enough tokens are sampled for a spectrum that tells heads apart, or none are.
std::string SampleWarning(const proto::RunConfig& config) {
  const auto& telemetry = config.telemetry();
  const int64_t width = HeadShapeOf(config.model()).width;
  const int64_t tokens = config.batch().sequences() * config.data().sequence_length();
  const int64_t sampled = TokenSample::Of(tokens, telemetry.sample_tokens()).count;
  if (!MeasuresHead(config)) return "";
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
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, CheckParts(config.model(), source)));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, CheckParameterGroups(config.optimizer(), ParametersOf(config), source)));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, CheckPort(config, local_rank, source)));
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
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, status));
  return CheckSameData(data_, world_);
}

absl::Status TrainingRun::LockFolder(const std::string& resume) {
  absl::Status status;
  if (world_.rank() == 0) {
    // The run that a scheduler ended may still save when the same job is there again. The other ranks wait here.
    const absl::Duration most = absl::Seconds(config_.mesh().setup_timeout_seconds()) / 2;
    const absl::Duration patience = resume == "never" ? absl::ZeroDuration() : std::min(kLockPatience, most);
    auto lock = RunLock::Take(config_.folder(), {.patience = patience,
                                                 .stop = [this] { return signals_.received() != 0; },
                                                 .note = [this](const std::string& note) { progress_->Note(note); }});
    status = lock.status();
    if (lock.ok()) lock_ = *std::move(lock);
  }
  return AgreeOnStatus(world_, status);
}

absl::Status TrainingRun::OpenFolder(const std::string& resume) {
  if (world_.rank() == 0) {
    progress_ = std::make_unique<Progress>(progress_stream_, progress_is_terminal_, config_.schedule().steps());
  }
  ISTHMUS_RETURN_IF_ERROR(LockFolder(resume));
  ISTHMUS_ASSIGN_OR_RETURN(plan_, PlanResume(resume, config_.folder(), world_));
  absl::StatusOr<std::string> aside = "";
  if (plan_.begins_anew && world_.rank() == 0) aside = SetAsideRecords(config_);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, aside.status()));
  if (!plan_.continued && plan_.candidates.empty()) ISTHMUS_RETURN_IF_ERROR(OpenRecords());
  auto log = Log::Open(config_.folder(), world_.rank());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, Bear(log.status())));
  log_ = log.ok() ? *std::move(log) : Log::Nowhere(world_.rank());
  ISTHMUS_RETURN_IF_ERROR(
      watch_.Start(config_.folder(), absl::Seconds(config_.mesh().collective_timeout_seconds()), world_, log_));
  if (world_.rank() == 0) {
    if (!lock_->warning().empty()) log_->Warning(lock_->warning());
    for (const std::string& leftover : watch_.leftovers()) progress_->Note(leftover);
    if (!aside->empty()) {
      log_->Warning(*aside);
      progress_->Note(*aside);
    }
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Bear(absl::Status status) {
  const bool goes_on = plan_.continued || plan_.begins_anew;
  if (!goes_on || !absl::IsResourceExhausted(status)) return status;
  if (full_disk_.empty()) full_disk_ = std::string(status.message());
  return absl::OkStatus();
}

absl::Status TrainingRun::OpenRecords() {
  const SinksOpening opening = {.first_step = restored_.has_value() ? restored_->step() + 1 : 0,
                                .continued = plan_.continued,
                                .bears_full_disk = plan_.continued || plan_.begins_anew};
  const auto create = [&]() -> absl::Status {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenSinks(config_, 0, local_rank_, opening));
    return Bear(WriteDurably(config_.folder() + "/config.textproto", ConfigText(config_)));
  };
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, world_.rank() == 0 ? create() : absl::OkStatus()));
  if (world_.rank() != 0) {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenSinks(config_, world_.rank(), local_rank_, opening));
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
  if (world_.rank() == 0) {
    if (const absl::Status status = RemoveLeftovers(config_.folder()); !status.ok()) {
      log_->Warning(std::string(status.message()));
    }
  }
  const proto::StabilityState stability = restored_.has_value() ? restored_->stability() : proto::StabilityState();
  stability_ = std::make_unique<Stability>(config_.stability(), stability);
  if (sinks_ == nullptr) ISTHMUS_RETURN_IF_ERROR(OpenRecords());
  for (const std::string& note : sinks_->TakeNotes()) Say(note);
  if (!full_disk_.empty()) {
    Say(absl::StrCat("the disk is full (", full_disk_, "): the run goes on, and what it can't write is lost"));
  }
  checkpoints_ = std::make_unique<RunCheckpoints>(config_, data_, *mesh_, *model_, *log_);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, checkpoints_->Reserve()));
  OpenLoader();
  return absl::OkStatus();
}

absl::Status TrainingRun::RestoreState() {
  ISTHMUS_ASSIGN_OR_RETURN(RestoredCheckpoint restored,
                           Restore(plan_, config_, data_.training, *model_, *mesh_, *log_));
  restored_folder_ = std::move(restored.folder);
  restored_ = std::move(restored.manifest);
  position_ = restored_->samples() / config_.batch().sequences();
  summary_.steps = restored_->step();
  summary_.tokens = restored_->tokens();
  summary_.validation_loss = restored_->validation_loss();
  if (plan_.continued) summary_.checkpoint = CheckpointFolder(config_.folder(), restored_->step());
  return absl::OkStatus();
}

absl::Status TrainingRun::TidyCheckpoints() {
  if (plan_.continued && !restored_folder_.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(const NamedCheckpoint named,
                             NameAfterStep(config_.folder(), restored_folder_, summary_.steps));
    if (named.renamed) log_->Warning(absl::StrCat("renamed: ", restored_folder_, " is ", summary_.checkpoint, " now"));
    if (!named.set_aside.empty()) log_->Warning("set aside: " + named.set_aside);
  }
  ISTHMUS_ASSIGN_OR_RETURN(const LaterCheckpoints later, SetAsideLater(config_.folder(), summary_.steps));
  if (!later.latest.empty()) log_->Warning(later.latest);
  if (!later.names.empty()) log_->Warning("set aside: " + absl::StrJoin(later.names, ", "));
  return absl::OkStatus();
}

absl::Status TrainingRun::SetAsideLaterCheckpoints() {
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, world_.rank() == 0 ? TidyCheckpoints() : absl::OkStatus()));
  // A rollback to what the run began from finds it by its new name.
  if (plan_.continued && !restored_folder_.empty()) plan_.candidates = {summary_.checkpoint};
  return absl::OkStatus();
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
  causal_flops_per_token_ = FlopsPerToken(config_, /*causal=*/true);
  full_flops_per_token_ = FlopsPerToken(config_, /*causal=*/false);
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
  run.set_head_bytes(memory.head + memory.decomposition);
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
    if (const int64_t shards = data_.training.dataset->shards_without_samples(); shards > 0) {
      Say(absl::StrCat(shards, " of the training shards have no more tokens than a sequence and give no sample"));
    }
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

}  // namespace isthmus
