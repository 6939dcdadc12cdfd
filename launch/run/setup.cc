#include "launch/run/setup.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/time/time.h>
#include <absl/types/span.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/rotation.h"
#include "checkpoint/stored_clusters.h"
#include "launch/choose_device.h"
#include "launch/run/agreed_checkpoint.h"
#include "launch/run/agreed_stop.h"
#include "launch/run/matmul_search.h"
#include "launch/run/restored_state.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/run_facts.h"
#include "launch/run/run_sinks.h"
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "model/model.h"
#include "model/resolve.h"
#include "model/train/parameter_groups.h"
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

// The lock waits for the run that had the folder before. A server of NFS lets go of a dead node's locks after 90 s.
constexpr absl::Duration kLockPatience = absl::Seconds(120);

// Returns no text if enough tokens are sampled for a spectrum that tells heads apart, or none are.
std::string SampleWarning(const proto::RunConfig& config) {
  const auto& telemetry = config.telemetry();
  const int64_t width = HeadShapeOf(config.model()).width;
  const int64_t sampled = TokenSample::Of(TokensPerStep(config), telemetry.sample_tokens()).count;
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

class RunSetup {
 public:
  explicit RunSetup(const RunRequest& request)
      : request_(request), world_(request.world), run_(std::make_unique<RunParts>(request)) {}

  absl::StatusOr<std::unique_ptr<RunParts>> SetUp();

 private:
  // These are the phases, in their order. All are collective.
  absl::Status ConnectRanks();
  absl::Status OpenData();
  absl::Status OpenFolder();
  absl::Status BuildModel();
  absl::Status Continue();
  void TellOfStart();

  // Takes this rank's clusters of tokens if all ranks have made theirs. A run that may go on from a checkpoint can do
  // without their file.
  absl::Status AgreeOnClusters(absl::StatusOr<std::vector<int32_t>> mine);
  // Returns those of a checkpoint, which all ranks have read.
  absl::StatusOr<std::vector<int32_t>> StoredClusters(const std::string& folder);
  // Takes those of the newest sound checkpoint that the run goes on from if their file is missing.
  absl::Status TakeStoredClusters();
  // Comes before anything in the folder is looked at: a run that is ending may still change it.
  absl::Status LockFolder(Progress* display);
  // Opens the sinks, for a new run with everything else. Nothing of a run that is continued changes before it is
  // restored.
  absl::StatusOr<std::unique_ptr<Sinks>> OpenRecords();
  // Returns OK if the disk is full and the run was there already. The run then starts, and loses the files that it
  // can't write.
  absl::Status Bear(const absl::Status& status);

  const RunRequest& request_;
  Communicator& world_;
  std::unique_ptr<RunParts> run_;
  ChosenDevice device_;           // its stream is the run's
  std::unique_ptr<Sinks> sinks_;  // until the recorder takes them
  absl::Status no_clusters_;      // why there are none, where the head needs some
  std::string full_disk_;         // what a full disk kept from being written
};

absl::StatusOr<std::unique_ptr<RunParts>> RunSetup::SetUp() {
  Whereabouts& whereabouts = request_.watch.whereabouts();
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, ResolveConfig(run_->config, world_.size(), request_.source)));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(
      world_, CheckParameterGroups(run_->config.optimizer(), ParametersOf(run_->config), request_.source)));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, CheckPort(run_->config, request_.local_rank, request_.source)));
  world_.set_deadline(SetupDeadline(run_->config));
  ISTHMUS_RETURN_IF_ERROR(ConnectRanks());
  whereabouts.Enter("opening data");
  FaultPoint("setup.data");
  ISTHMUS_RETURN_IF_ERROR(OpenData());
  ISTHMUS_RETURN_IF_ERROR(EndIfStopped(request_.signals, world_, "the data were opened"));
  ISTHMUS_RETURN_IF_ERROR(OpenFolder());
  whereabouts.Enter("building the model");
  FaultPoint("setup.model");
  ISTHMUS_RETURN_IF_ERROR(BuildModel());
  ISTHMUS_RETURN_IF_ERROR(EndIfStopped(request_.signals, world_, "the model was made"));
  whereabouts.Enter("loading");
  FaultPoint("setup.load");
  ISTHMUS_RETURN_IF_ERROR(Continue());
  TellOfStart();
  return std::move(run_);
}

absl::Status RunSetup::ConnectRanks() {
  const proto::RunConfig& config = run_->config;
  ISTHMUS_ASSIGN_OR_RETURN(device_, ChooseDevice(config.device(), config.precision().compute(), request_.local_rank,
                                                 world_, request_.source));
  run_->stream = std::move(device_.stream);
  if (config.precision().fp8_layers()) {
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, CheckFp8(run_->stream, request_.source)));
  }
  ISTHMUS_ASSIGN_OR_RETURN(run_->mesh, Mesh::Create(world_, config.mesh().tensor(), config.mesh().data(), run_->stream,
                                                    SetupDeadline(config)));
  return absl::OkStatus();
}

absl::Status RunSetup::OpenData() {
  proto::RunConfig& config = run_->config;
  const bool verify = config.data().verify() && world_.rank() == 0;
  auto data = OpenRunData(config, verify, request_.source, request_.signals);
  absl::Status status = data.status();
  if (status.ok()) {
    run_->data = *std::move(data);
    status = ResolveVocabulary(config, run_->data.training.source->vocabulary(), request_.source);
  }
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, status));
  CountTokens(config.model().vocabulary(), run_->data);
  auto clusters = MakeClusters(config, run_->data.training.source->vocabulary(), run_->data.tables.counts);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnClusters(std::move(clusters)));
  return CheckSameData(run_->data, world_);
}

absl::Status RunSetup::AgreeOnClusters(absl::StatusOr<std::vector<int32_t>> mine) {
  const absl::Status made = AgreeOnStatus(world_, mine.status());
  if (absl::IsNotFound(made) && request_.resume != "never") {
    no_clusters_ = made;
    return absl::OkStatus();
  }
  ISTHMUS_RETURN_IF_ERROR(made);
  run_->data.tables.clusters = *std::move(mine);
  no_clusters_ = absl::OkStatus();
  return AgreeOnStatus(world_, ResolveClusters(run_->config, run_->data.tables.clusters, request_.source));
}

absl::StatusOr<std::vector<int32_t>> RunSetup::StoredClusters(const std::string& folder) {
  ISTHMUS_ASSIGN_OR_RETURN(const proto::CheckpointManifest manifest, AgreedManifest(folder, world_));
  auto stored = LoadClusters(folder, manifest);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnReading(folder, stored.status(), world_));
  return stored;
}

absl::Status RunSetup::TakeStoredClusters() {
  if (no_clusters_.ok()) return absl::OkStatus();
  for (const std::string& folder : run_->plan.candidates) {
    auto stored = StoredClusters(folder);
    if (stored.ok()) return AgreeOnClusters(std::move(stored));
    if (!IsNotSound(stored.status())) return stored.status();
  }
  return no_clusters_;
}

absl::Status RunSetup::LockFolder(Progress* display) {
  absl::Status status;
  if (world_.rank() == 0) {
    // The run that a scheduler ended may still save when the same job is there again. The other ranks wait here.
    const absl::Duration most = SetupDeadline(run_->config) / 2;
    const absl::Duration patience = request_.resume == "never" ? absl::ZeroDuration() : std::min(kLockPatience, most);
    auto lock =
        RunLock::Take(run_->config.folder(), {.patience = patience,
                                              .stop = [this] { return request_.signals.received() != 0; },
                                              .note = [display](const std::string& note) { display->Note(note); }});
    status = lock.status();
    if (lock.ok()) run_->lock = *std::move(lock);
  }
  return AgreeOnStatus(world_, status);
}

absl::Status RunSetup::OpenFolder() {
  const proto::RunConfig& config = run_->config;
  std::unique_ptr<Progress> display;
  if (world_.rank() == 0) {
    display = std::make_unique<Progress>(request_.display, request_.display_is_terminal, config.schedule().steps());
  }
  ISTHMUS_RETURN_IF_ERROR(LockFolder(display.get()));
  ISTHMUS_ASSIGN_OR_RETURN(run_->plan, PlanResume(request_.resume, config.folder(), world_));
  ISTHMUS_RETURN_IF_ERROR(TakeStoredClusters());
  absl::StatusOr<std::string> aside = "";
  if (run_->plan.begins_anew && world_.rank() == 0) aside = SetAsideRecords(config);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, aside.status()));
  if (!run_->plan.continued && run_->plan.candidates.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenRecords());
  }
  auto opened = Log::Open(config.folder(), world_.rank());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, Bear(opened.status())));
  const std::shared_ptr<Log> log = opened.ok() ? *std::move(opened) : Log::Nowhere(world_.rank());
  run_->messages = std::make_unique<RunMessages>(log, std::move(display));
  ISTHMUS_RETURN_IF_ERROR(request_.watch.Start(config.folder(), StepDeadline(config), world_, log));
  if (world_.rank() == 0) {
    if (!run_->lock->warning().empty()) log->Warning(run_->lock->warning());
    for (const std::string& leftover : request_.watch.leftovers()) run_->messages->Show(leftover);
    if (!aside->empty()) run_->messages->Say(*aside);
  }
  return absl::OkStatus();
}

absl::Status RunSetup::Bear(const absl::Status& status) {
  const bool goes_on = run_->plan.continued || run_->plan.begins_anew;
  if (!goes_on || !absl::IsResourceExhausted(status)) return status;
  if (full_disk_.empty()) full_disk_ = std::string(status.message());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Sinks>> RunSetup::OpenRecords() {
  const proto::RunConfig& config = run_->config;
  const ResumePlan& plan = run_->plan;
  const SinksOpening opening = {.first_step = run_->restored.has_value() ? run_->restored->manifest.step() + 1 : 0,
                                .continued = plan.continued,
                                .bears_full_disk = plan.continued || plan.begins_anew};
  std::unique_ptr<Sinks> sinks;
  const auto create = [&]() -> absl::Status {
    ISTHMUS_ASSIGN_OR_RETURN(sinks, OpenSinks(config, 0, request_.local_rank, opening));
    return Bear(WriteDurably(config.folder() + "/config.textproto", ConfigText(config)));
  };
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, world_.rank() == 0 ? create() : absl::OkStatus()));
  if (world_.rank() == 0) return sinks;
  return OpenSinks(config, world_.rank(), request_.local_rank, opening);
}

absl::Status RunSetup::BuildModel() {
  const proto::RunConfig& config = run_->config;
  const TokenTables& tables = run_->data.tables;
  const auto create = [&]() -> absl::Status {
    ISTHMUS_ASSIGN_OR_RETURN(run_->decomposition,
                             HeadDecomposition::Create(config, *run_->mesh, run_->stream, tables.counts));
    ISTHMUS_ASSIGN_OR_RETURN(
        run_->model, TrainingModel::Create(config, *run_->mesh, run_->stream, run_->decomposition.get(), tables));
    return absl::OkStatus();
  };
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, create()));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, run_->model->InitializeWeights(config.seed())));
  if (config.cuda().matmul_search()) {
    ISTHMUS_RETURN_IF_ERROR(ChooseMatmulAlgorithms(config.folder(), world_, run_->stream, run_->messages->log(),
                                                   [this] { return run_->model->Rehearse(); }));
  }
  if (run_->stream.device() == Device::kCpu) {
    // All ranks do this at the same time, as in training: they share caches and power.
    ISTHMUS_RETURN_IF_ERROR(world_.Barrier());
    const auto peak = MeasureMatmulPeak(ComputeType(config.precision()), absl::Milliseconds(300), run_->stream);
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, peak.status()));
    device_.peak_flops = *peak;
  }
  return world_.AllReduceNumbers(absl::MakeSpan(&device_.peak_flops, 1));
}

absl::Status RunSetup::Continue() {
  const proto::RunConfig& config = run_->config;
  RunMessages& messages = *run_->messages;
  proto::StabilityState stability;
  run_->gaps.emplace(config.model().vocabulary(), *run_->mesh);
  if (!run_->plan.candidates.empty()) {
    ISTHMUS_RETURN_IF_ERROR(RestoreState(*run_));
    ISTHMUS_RETURN_IF_ERROR(EndIfStopped(request_.signals, world_, "a checkpoint was loaded"));
    if (run_->plan.continued) ISTHMUS_RETURN_IF_ERROR(SetAsideLaterCheckpoints(*run_));
    stability = run_->restored->manifest.stability();
    messages.log().Info(absl::StrCat("continued after step ", run_->state.steps));
  }
  if (world_.rank() == 0) {
    const absl::Status status = RemoveLeftovers(config.folder());
    if (!status.ok()) messages.log().Warning(std::string(status.message()));
  }
  run_->stability = std::make_unique<Stability>(config.stability(), stability);
  if (sinks_ == nullptr) {
    ISTHMUS_ASSIGN_OR_RETURN(sinks_, OpenRecords());
  }
  for (const std::string& note : sinks_->TakeNotes()) messages.Say(note);
  if (!full_disk_.empty()) {
    messages.Say(absl::StrCat("the disk is full (", full_disk_, "): the run goes on, and what it can't write is lost"));
  }
  run_->recorder = std::make_unique<Recorder>(config, *run_->mesh, run_->watch, messages, std::move(sinks_));
  run_->checkpoints =
      std::make_unique<RunCheckpoints>(config, run_->data, *run_->mesh, *run_->model, *run_->gaps, messages.log());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, run_->checkpoints->Reserve()));
  OpenLoader(*run_);
  return absl::OkStatus();
}

void RunSetup::TellOfStart() {
  RunMessages& messages = *run_->messages;
  const Mesh& mesh = *run_->mesh;
  const proto::RunRecord facts = FactsOf(*run_, device_.name, device_.peak_flops);
  messages.log().Info(absl::StrCat("started: version ", kVersion, ", rank ", world_.rank(), " of ", world_.size(),
                                   ", tensor rank ", mesh.tensor_rank(), ", data rank ", mesh.data_rank(), ", ",
                                   MaxThreads(), " threads, on ", device_.name));
  messages.Show(FactsText(facts));
  if (world_.rank() == 0) {
    if (const std::string warning = SampleWarning(run_->config); !warning.empty()) messages.Say(warning);
    if (const int64_t shards = run_->data.short_shards; shards > 0) {
      messages.Say(
          absl::StrCat(shards, " of the training shards have no more tokens than a sequence and give no sample"));
    }
  }
  std::optional<int64_t> resumed_step;
  if (run_->restored.has_value()) resumed_step = run_->state.steps;
  run_->recorder->Begin(facts, run_->model->optimizer().groups(), resumed_step);
  if (resumed_step.has_value()) messages.Show(absl::StrCat("continues after step ", *resumed_step));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunParts>> SetUpRun(const RunRequest& request) { return RunSetup(request).SetUp(); }

}  // namespace isthmus
