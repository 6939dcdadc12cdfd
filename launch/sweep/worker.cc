#include "launch/sweep/worker.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <algorithm>
#include <utility>

#include "launch/sweep/lost_runs.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(20);
// Other workers say nothing: their results are looked for this often.
constexpr absl::Duration kLongPause = absl::Seconds(1);
constexpr int kPausesBetweenRequests = 50;  // about a second

// "1:23:45", or "0:41" below an hour.
std::string DurationText(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(seconds, 0.0));
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  return hours > 0 ? absl::StrFormat("%d:%02d:%02d", hours, minutes, whole % 60)
                   : absl::StrFormat("%d:%02d", minutes, whole % 60);
}

std::vector<std::string> CommandLine(const std::string& base, const std::string& folder, const PlannedRun& run) {
  std::vector<std::string> line = {"train", "--config", base, "--resume", "auto", "--progress", "plain", "--stop-once"};
  for (const std::string& override : run.overrides) line.insert(line.end(), {"--set", override});
  line.insert(line.end(), {"--set", absl::StrCat("folder=", folder)});
  return line;
}

}  // namespace

absl::Status Worker::Work() {
  ISTHMUS_RETURN_IF_ERROR(MakeRunFolder(config_.folder()));
  for (;;) {
    ISTHMUS_RETURN_IF_ERROR(EndRuns());
    if (const int signal = signals_.received(); signal != 0) {
      ISTHMUS_RETURN_IF_ERROR(StopRuns());
      return absl::CancelledError(
          absl::StrCat(SignalName(signal), ": the sweep's runs have saved; start it again to go on"));
    }
    if (!lost_.ok()) {
      ISTHMUS_RETURN_IF_ERROR(StopRuns());
      return lost_;
    }
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<ArmSurvey> arms, Refresh());
    const bool complete = std::all_of(arms.begin(), arms.end(), [](const ArmSurvey& arm) { return arm.complete(); });
    if (complete && running_.empty()) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(StartRuns(arms));
    absl::SleepFor(running_.empty() ? kLongPause : kPause);
  }
}

absl::StatusOr<std::vector<ArmSurvey>> Worker::Refresh() {
  for (;;) {
    std::vector<ArmSurvey> arms = Survey();
    bool found = false;
    for (const ArmSurvey& arm : arms) {
      for (const PlannedRun& run : arm.needed) {
        ISTHMUS_ASSIGN_OR_RETURN(const bool read, Read(run));
        found = found || read;
      }
    }
    if (!found) return arms;
  }
}

absl::StatusOr<std::string> Worker::DigestOf(const PlannedRun& run) {
  std::string& digest = digests_[run.name];
  if (digest.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(digest, SettingsDigest(config_.base(), run));
  }
  return digest;
}

absl::StatusOr<bool> Worker::Read(const PlannedRun& run) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::optional<RunRecord> record, ReadRunRecord(FolderOf(run)));
  if (!record.has_value()) return false;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string digest, DigestOf(run));
  if (record->settings != digest) {
    return absl::FailedPreconditionError(absl::StrCat(
        FolderOf(run), ": holds a run of other settings; give the sweep another folder, or remove this one"));
  }
  if (record->result.end == RunResult::End::kFailed && options_.retry_failed && retried_.count(run.name) == 0)
    return false;
  results_[run.name] = record->result;
  return true;
}

absl::Status Worker::StartRuns(const std::vector<ArmSurvey>& arms) {
  const auto is_here = [&](const PlannedRun& run) {
    return std::any_of(running_.begin(), running_.end(),
                       [&](const Running& running) { return running.run.name == run.name; });
  };
  for (const ArmSurvey& arm : arms) {
    for (const PlannedRun& run : arm.needed) {
      if (static_cast<int>(running_.size()) >= options_.jobs) return absl::OkStatus();
      if (is_here(run)) continue;
      auto claim = RunLock::Take(
          ClaimOf(run), {.patience = absl::ZeroDuration(), .stop = [] { return false; }, .note = [](const auto&) {}});
      if (absl::IsFailedPrecondition(claim.status())) continue;  // another worker's
      ISTHMUS_RETURN_IF_ERROR(claim.status());
      // Perhaps it has just ended there.
      ISTHMUS_ASSIGN_OR_RETURN(const bool ended, Read(run));
      if (!ended) ISTHMUS_RETURN_IF_ERROR(StartRun(run, *std::move(claim)));
    }
  }
  return absl::OkStatus();
}

absl::Status Worker::StartRun(const PlannedRun& run, std::unique_ptr<RunLock> claim) {
  const std::string folder = FolderOf(run);
  // A run that can't be configured ends the sweep here, before it starts.
  ISTHMUS_RETURN_IF_ERROR(DigestOf(run).status());
  ISTHMUS_RETURN_IF_ERROR(MakeRunFolder(folder));
  retried_.insert(run.name);
  ISTHMUS_ASSIGN_OR_RETURN(auto process, RunProcess::Start(options_.launcher, CommandLine(config_.base(), folder, run),
                                                           folder + "/sweep.log", options_.threads));
  running_.push_back({run, std::move(claim), std::move(process), MonotonicSeconds()});
  return absl::OkStatus();
}

absl::Status Worker::EndRuns() {
  bool ended = false;
  for (size_t i = 0; i < running_.size();) {
    const std::optional<int> status = running_[i].process->Ended();
    if (!status.has_value()) {
      ++i;
      continue;
    }
    const Running running = std::move(running_[i]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    // It goes on another time. One that is asked early may be killed by it, when it has nothing to save yet; then the
    // status is the launcher's.
    if (WasAsked(*status) || (stops_ && IsLost(*status))) continue;
    ISTHMUS_RETURN_IF_ERROR(Keep(running, *status));
    ended = true;
  }
  if (ended) Say(Survey());
  return absl::OkStatus();
}

absl::Status Worker::StopRuns() {
  stops_ = true;
  for (int pauses = 0; !running_.empty(); ++pauses) {
    if (pauses % kPausesBetweenRequests == 0) {
      for (const Running& running : running_) running.process->AskToSave();
    }
    absl::SleepFor(kPause);
    ISTHMUS_RETURN_IF_ERROR(EndRuns());
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Worker::IsTriedAgain(const Running& running, int exit_status, const std::string& reason) {
  if (!IsLost(exit_status) || options_.lost_runs == 0) return false;
  ISTHMUS_ASSIGN_OR_RETURN(const int64_t losses, CountLoss(ClaimOf(running.run)));
  if (losses > options_.lost_runs) return false;
  const std::string what = absl::StrFormat("%s: lost (%d of %d times before it counts as failed): %s", running.run.name,
                                           losses, options_.lost_runs, reason);
  out_ << what << "\n";
  lost_ = absl::UnavailableError(absl::StrCat(what, "; start the sweep again to go on"));
  return true;
}

absl::Status Worker::Keep(const Running& running, int exit_status) {
  const std::string folder = FolderOf(running.run);
  const RunRecord record = {.result = ResultOfRun(folder, exit_status, folder + "/sweep.log"),
                            .seconds = MonotonicSeconds() - running.start,
                            .settings = digests_[running.run.name]};
  ISTHMUS_ASSIGN_OR_RETURN(const bool again, IsTriedAgain(running, exit_status, record.result.reason));
  if (again) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(ForgetLosses(ClaimOf(running.run)));
  ISTHMUS_RETURN_IF_ERROR(WriteRunRecord(folder, record));
  results_[running.run.name] = record.result;
  run_seconds_ += record.seconds;
  ++ended_;
  const bool finished = record.result.end == RunResult::End::kFinished;
  out_ << running.run.name << ": "
       << (finished ? absl::StrFormat("loss %.4f", record.result.loss)
                    : absl::StrCat(record.result.end == RunResult::End::kDiverged ? "diverged" : "failed", ": ",
                                   record.result.reason))
       << ", " << absl::StrFormat("%.1f s\n", record.seconds);
  return absl::OkStatus();
}

void Worker::Say(const std::vector<ArmSurvey>& arms) {
  int64_t left = 0;
  for (const ArmSurvey& arm : arms) left += static_cast<int64_t>(arm.needed.size()) + arm.later;
  const double seconds = static_cast<double>(left) * run_seconds_ / static_cast<double>(ended_ * options_.jobs);
  out_ << absl::StrFormat("%d of %d runs, %s left\n", results_.size(), static_cast<int64_t>(results_.size()) + left,
                          DurationText(seconds));
  out_.flush();
}

}  // namespace isthmus::sweep
