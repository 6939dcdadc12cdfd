#include "launch/run/resume.h"

#include <absl/strings/ascii.h>
#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/rotation.h"
#include "checkpoint/stored_clusters.h"
#include "checkpoint/stored_token_gaps.h"
#include "checkpoint/weights.h"
#include "launch/run/agreed_checkpoint.h"
#include "launch/run/seen_symbols.h"
#include "model/heads/heads.h"
#include "runtime/config.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/set_aside.h"
#include "runtime/status.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/kept_records.h"

namespace isthmus {
namespace {

// Larger records belong to steps, and are read line by line.
constexpr int64_t kMostFirstRecords = int64_t{16} << 20;

// Returns the number of steps in a run's records. The first line belongs to no step. A damaged line counts as a step.
// Errors: by errno; records that can't be read do not count as empty.
absl::StatusOr<int64_t> RecordedSteps(const std::string& records) {
  // Reading a pipe would wait for ever.
  std::error_code error;
  if (!std::filesystem::is_regular_file(records, error)) {
    return absl::FailedPreconditionError(absl::StrCat(records, ": is no regular file"));
  }
  const auto read = ReadFile(records, kMostFirstRecords);
  if (absl::IsInvalidArgument(read.status())) {
    const size_t lines = FindRecords(records, {}).lines.size();
    return std::max<int64_t>(static_cast<int64_t>(lines) - 1, 1);
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, read);
  int64_t lines = 0, steps = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    // Only the first line has step 0. A later one with step 0 is a step whose number is damaged.
    steps += lines == 0 && RecordStep(std::string(line)) == 0 ? 0 : 1;
    ++lines;
  }
  return steps;
}

absl::StatusOr<std::vector<std::string>> ListFolders(const std::string& run_folder) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<StoredCheckpoint> stored, ListCheckpoints(run_folder));
  std::vector<std::string> folders;
  for (const StoredCheckpoint& one : stored) folders.push_back(one.folder);
  return folders;
}

// A run that was continued from a checkpoint that had been set aside may have ended before it renamed it. To begin anew
// would lose its steps. A run that went back to its beginning sets aside only what is damaged or not finite.
absl::Status CheckNoneIsSetAside(const std::string& run_folder) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> aside, ListSetAside(run_folder));
  std::vector<std::string> names;
  for (const std::string& folder : aside) {
    const auto manifest = ReadManifest(folder);
    if (manifest.ok() ? !manifest->finite() : IsNotSound(manifest.status())) continue;
    names.push_back(std::filesystem::path(folder).filename().string());
  }
  if (names.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(run_folder, "/checkpoints: holds no checkpoint step-…, but ", absl::StrJoin(names, ", "),
                   ", set aside by earlier starts; go on from one with --resume ", run_folder, "/checkpoints/",
                   names.front(), ", or move them elsewhere to begin anew"));
}

// Returns what this rank sees in the folders.
absl::StatusOr<ResumePlan> LookForCheckpoints(const std::string& how, const std::string& run_folder) {
  ResumePlan plan;
  if (how != "auto" && how != "never") {
    ISTHMUS_ASSIGN_OR_RETURN(std::string found, FindCheckpoint(how));
    std::error_code error;
    const auto resolved = std::filesystem::weakly_canonical(found, error);
    plan.continued =
        !error && resolved.parent_path() == std::filesystem::weakly_canonical(run_folder + "/checkpoints", error);
    plan.candidates.push_back(std::move(found));
    if (plan.continued) return plan;
  }
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<std::string> stored, ListFolders(run_folder));
  // Its rotation would remove the new run's checkpoints, and a rollback go to its weights.
  if (how != "auto" && !stored.empty()) return HoldsARun(stored.front());
  if (how != "auto") return plan;
  if (stored.empty()) ISTHMUS_RETURN_IF_ERROR(CheckNoneIsSetAside(run_folder));
  plan.candidates = std::move(stored);
  return plan;
}

// For a run that does not continue, returns true if its folder holds records that have to make room. It is called on
// rank 0, which writes them.
absl::StatusOr<bool> BeginsAnew(const std::string& how, const std::string& run_folder) {
  std::error_code error;
  const std::string records = run_folder + "/metrics.jsonl";
  if (!std::filesystem::exists(records, error)) return false;
  if (how == "auto") return true;
  // A start that failed or was stopped before its first step does not block the next one.
  ISTHMUS_ASSIGN_OR_RETURN(const int64_t steps, RecordedSteps(records));
  return steps == 0;
}

constexpr char kMayBeSound[] = "isthmus/may-be-sound";

constexpr char kNothingStarted[] =
    "so nothing was started or changed: remedy that and start again, or rename the checkpoint to go on from an older "
    "one";
constexpr char kEndsTheRun[] =
    "so the run ends, and does not go back to an older one: remedy that, or rename the checkpoint, and start again "
    "with --resume auto";

// Makes the error for a candidate that may be sound. A run that went on from an older one would lose steps.
absl::Status Unreadable(const absl::Status& status, bool while_training) {
  if (ExitStatusOf(status.code()) != kExitBadInput || absl::IsInvalidArgument(status)) return status;
  absl::Status marked(status.code(), absl::StrCat(status.message(), "; the checkpoint may be sound all the same, ",
                                                  while_training ? kEndsTheRun : kNothingStarted));
  marked.SetPayload(kMayBeSound, absl::Cord("yes"));
  return marked;
}

// Returns "model.width: 32 -> 64, seed: 1 -> 2"; empty if there is none. Fields that are not set have their defaults.
std::string Differences(const proto::RunConfig& from, const proto::RunConfig& to) {
  google::protobuf::util::MessageDifferencer differencer;
  differencer.set_message_field_comparison(google::protobuf::util::MessageDifferencer::EQUIVALENT);
  std::string text;
  differencer.ReportDifferencesToString(&text);
  if (differencer.Compare(from, to)) return "";
  absl::StripAsciiWhitespace(&text);
  return absl::StrReplaceAll(text, {{"modified: ", ""}, {"\n", ", "}});
}

// Without this the continued run would not be the same run at all.
proto::RunConfig Essence(const proto::RunConfig& config) {
  proto::RunConfig essence;
  *essence.mutable_model() = config.model();
  NormaliseHead(*essence.mutable_model());
  essence.set_seed(config.seed());
  essence.mutable_data()->set_sequence_length(config.data().sequence_length());
  if (config.data().has_spamlang()) *essence.mutable_data()->mutable_spamlang() = config.data().spamlang();
  essence.mutable_batch()->set_sequences(config.batch().sequences());
  essence.mutable_precision()->set_compute(config.precision().compute());
  return essence;
}

// These settings may change on the way. The run is then no longer the uninterrupted one.
proto::RunConfig Course(const proto::RunConfig& config) {
  proto::RunConfig course;
  *course.mutable_optimizer() = config.optimizer();
  *course.mutable_schedule() = config.schedule();
  course.mutable_precision()->set_fp8_layers(config.precision().fp8_layers());
  *course.mutable_data()->mutable_pass_over() = config.data().pass_over();
  return course;
}

absl::Status CheckSameRun(const std::string& folder, const proto::CheckpointManifest& manifest,
                          const proto::RunConfig& config, const SampleSet& samples) {
  const std::string differences = Differences(Essence(manifest.config()), Essence(config));
  const auto fail = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": can't be continued with this configuration: ", what,
                     "; use the run's own configuration, or another folder for another run"));
  };
  if (!differences.empty()) return fail(differences);
  if (manifest.tokenizer_fingerprint() != samples.source->tokenizer_fingerprint()) {
    return fail("the token shards were made with another tokenizer");
  }
  // Each step takes one batch, and some more may have been passed over. Other numbers are no position in the data.
  const int64_t sequences = config.batch().sequences();
  if (manifest.samples() % sequences != 0 || manifest.samples() / sequences < manifest.step()) {
    return absl::DataLossError(absl::StrCat(folder, ": samples: ", manifest.samples(),
                                            "; accepted: a multiple of batch.sequences (", sequences,
                                            "), one at least for each of ", manifest.step(), " steps"));
  }
  if (config.data().has_spamlang()) ISTHMUS_RETURN_IF_ERROR(CheckUntrained(manifest, sequences, folder));
  if (manifest.has_training_samples() && manifest.training_samples() != samples.count) {
    return fail(
        absl::StrCat("the data set has ", samples.count, " training samples, it had ", manifest.training_samples()));
  }
  if (manifest.has_training_shards() && manifest.training_shards() != samples.source->fingerprint()) {
    return fail("the token shards are others, or in another order");
  }
  return absl::OkStatus();
}

// Weights are those of a model with the checkpoint's clusters.
absl::Status CheckSameClusters(const std::string& folder, const std::vector<int32_t>& stored,
                               const std::vector<int32_t>& mine, bool of_file) {
  if (mine == stored) return absl::OkStatus();
  size_t token = 0;
  while (token < std::min(mine.size(), stored.size()) && mine[token] == stored[token]) ++token;
  const auto cluster = [token](const std::vector<int32_t>& of) {
    return token < of.size() ? absl::StrCat("of cluster ", of[token]) : "of none";
  };
  return absl::InvalidArgumentError(
      absl::StrCat(folder, ": can't be continued with these clusters of tokens: token ", token, " is ", cluster(mine),
                   ", and was ", cluster(stored), "; ",
                   of_file ? absl::StrCat("set data.token_clusters to ", folder, "/", kClustersFile,
                                          ", which has those of the run, or use ")
                           : "use ",
                   "another folder for another run"));
}

absl::StatusOr<RestoredCheckpoint> RestoreFrom(const std::string& folder, const proto::RunConfig& config,
                                               const RunData& data, TrainingModel& model, const Mesh& mesh) {
  Communicator& world = mesh.world();
  RestoredCheckpoint restored{.folder = folder};
  proto::CheckpointManifest& manifest = restored.manifest;
  ISTHMUS_ASSIGN_OR_RETURN(manifest, AgreedManifest(folder, world));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, CheckSameRun(folder, manifest, config, data.training)));
  const auto clusters = LoadClusters(folder, manifest);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnReading(folder, clusters.status(), world));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(
      world, CheckSameClusters(folder, *clusters, data.tables.clusters, !config.data().token_clusters().empty())));
  ISTHMUS_RETURN_IF_ERROR(
      AgreeOnReading(folder, LoadTrainingState(folder, manifest, model.parameters(), model.optimizer()), world));
  auto gaps = LoadTokenGaps(folder, manifest);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnReading(folder, gaps.status(), world));
  restored.token_gaps = *std::move(gaps);
  manifest.clear_tensors();
  return restored;
}

}  // namespace

bool MayBeSound(const absl::Status& status) { return status.GetPayload(kMayBeSound).has_value(); }

absl::StatusOr<ResumePlan> PlanResume(const std::string& how, const std::string& run_folder, Communicator& world) {
  auto mine = LookForCheckpoints(how, run_folder);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, mine.status()));
  ResumePlan plan = *std::move(mine);
  ISTHMUS_ASSIGN_OR_RETURN(plan.candidates, AgreedCheckpoints(plan.candidates, world));
  if (how == "auto") {
    plan.continued = !plan.candidates.empty();
  } else if (plan.candidates.size() > 1) {
    plan.candidates.resize(1);  // the newest
  }
  absl::StatusOr<bool> anew = false;
  if (world.rank() == 0 && !plan.continued) anew = BeginsAnew(how, run_folder);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, anew.status()));
  std::array<int32_t, 2> shared = {plan.continued, *anew};
  ISTHMUS_RETURN_IF_ERROR(world.Broadcast(Tensor(shared.data(), DType::kInt32, 1, 2), 0));
  plan.continued = shared[0] != 0;
  plan.begins_anew = shared[1] != 0;
  return plan;
}

absl::StatusOr<std::string> SetAsideRecords(const proto::RunConfig& config) {
  const std::string records = config.folder() + "/metrics.jsonl";
  const auto steps = RecordedSteps(records);
  std::error_code error;
  if (steps.ok() && *steps == 0) {
    std::filesystem::remove(records, error);
    if (error) return FileError(records, "can't remove records of no step", error.value());
    return "";
  }
  if (const auto earlier = LoadRunConfig(config.folder()); earlier.ok()) {
    const std::string differences = Differences(Essence(*earlier), Essence(config));
    if (!differences.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(config.folder(), ": holds the records of another run (", differences,
                       ") and no checkpoint to go on from; set `folder` to another one, or remove it"));
    }
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::string aside, SetAside(records));
  return absl::StrCat("no checkpoint in ", config.folder(), ": begins anew; the records ",
                      steps.ok() ? absl::StrCat("of ", *steps, " steps") : "that can't be read", " are in ",
                      std::filesystem::path(aside).filename().string());
}

absl::StatusOr<ResumePlan> PlanRollback(const ResumePlan& began, const std::string& run_folder, Communicator& world) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> folders, AgreedCheckpoints(ListFolders(run_folder), world));
  ResumePlan plan;
  for (const std::string& folder : folders) {
    const auto manifest = AgreedManifest(folder, world);
    if (ExitStatusOf(manifest.status().code()) == kExitRankFailed) return manifest.status();
    if (!manifest.ok() && !IsNotSound(manifest.status())) {
      if (plan.candidates.empty()) return Unreadable(manifest.status(), /*while_training=*/true);
      // A newer one will do. If it turns out to be damaged, Restore says why this one can't be read.
      plan.candidates.push_back(folder);
      break;
    }
    if (manifest.ok() && manifest->finite()) plan.candidates.push_back(folder);
  }
  if (plan.candidates.empty()) {
    plan = began;
  } else {
    plan.continued = true;
  }
  plan.while_training = true;
  return plan;
}

absl::StatusOr<RestoredCheckpoint> Restore(const ResumePlan& plan, const proto::RunConfig& config, const RunData& data,
                                           TrainingModel& model, const Mesh& mesh, Log& log) {
  std::vector<std::string> reasons;
  for (const std::string& folder : plan.candidates) {
    auto restored = RestoreFrom(folder, config, data, model, mesh);
    if (restored.ok()) {
      const std::string changed = Differences(Course(restored->manifest.config()), Course(config));
      if (!changed.empty()) log.Warning("not as the run began: " + changed);
      return restored;
    }
    if (!IsNotSound(restored.status())) return Unreadable(restored.status(), plan.while_training);
    reasons.emplace_back(restored.status().message());
    log.Warning("not sound: " + reasons.back());
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "there are checkpoints, but none is sound", plan.while_training ? "" : ", so nothing was started or changed",
      "; restore one, or set `folder` to another one to begin anew:\n  ", absl::StrJoin(reasons, "\n  ")));
}

}  // namespace isthmus
