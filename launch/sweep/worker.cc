#include "launch/sweep/worker.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "launch/sweep/lost_runs.h"
#include "launch/sweep/run_record.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"
#include "runtime/stop_signals.h"

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

}  // namespace

absl::Status Worker::Work() {
  ISTHMUS_RETURN_IF_ERROR(MakeRunFolder(folder_));
  for (;;) {
    ISTHMUS_RETURN_IF_ERROR(EndSome());
    if (const int signal = StopSignals::latest(); signal != 0) {
      ISTHMUS_RETURN_IF_ERROR(Stop());
      return absl::CancelledError(absl::StrCat(SignalName(signal), ": ", jobs_.Stopped()));
    }
    if (!lost_.ok()) {
      ISTHMUS_RETURN_IF_ERROR(Stop());
      return lost_;
    }
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<Job> needed, Refresh());
    if (needed.empty() && running_.empty()) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(StartSome(needed));
    absl::SleepFor(running_.empty() ? kLongPause : kPause);
  }
}

absl::StatusOr<std::vector<Job>> Worker::Refresh() {
  for (;;) {
    std::vector<Job> needed = jobs_.Needed(results_);
    bool found = false;
    for (const Job& job : needed) {
      ISTHMUS_ASSIGN_OR_RETURN(const bool read, Read(job));
      found = found || read;
    }
    if (!found) return needed;
  }
}

absl::StatusOr<std::string> Worker::SettingsOf(const Job& job) {
  std::string& settings = settings_[job.name];
  if (settings.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(settings, job.settings());
  }
  return settings;
}

absl::StatusOr<bool> Worker::Read(const Job& job) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::optional<RunRecord> record, ReadRunRecord(job.folder));
  if (!record.has_value()) return false;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string settings, SettingsOf(job));
  if (record->settings != settings) {
    ISTHMUS_RETURN_IF_ERROR(jobs_.OnOtherSettings(job));
    return false;
  }
  if (record->result.end == RunResult::End::kFailed && options_.retry_failed && retried_.count(job.name) == 0)
    return false;
  results_[job.name] = record->result;
  return true;
}

absl::Status Worker::StartSome(const std::vector<Job>& needed) {
  const auto is_here = [&](const Job& job) {
    return std::any_of(running_.begin(), running_.end(),
                       [&](const Running& running) { return running.job.name == job.name; });
  };
  for (const Job& job : needed) {
    if (static_cast<int>(running_.size()) >= options_.jobs) return absl::OkStatus();
    if (is_here(job)) continue;
    auto claim = RunLock::Take(
        job.claim, {.patience = absl::ZeroDuration(), .stop = [] { return false; }, .note = [](const auto&) {}});
    if (absl::IsFailedPrecondition(claim.status())) continue;  // another worker's
    ISTHMUS_RETURN_IF_ERROR(claim.status());
    // Perhaps it has just ended there.
    ISTHMUS_ASSIGN_OR_RETURN(const bool ended, Read(job));
    if (!ended) ISTHMUS_RETURN_IF_ERROR(Start(job, *std::move(claim)));
  }
  return absl::OkStatus();
}

absl::Status Worker::Start(const Job& job, std::unique_ptr<RunLock> claim) {
  // A job that can't be configured ends the worker here, before it starts.
  ISTHMUS_RETURN_IF_ERROR(SettingsOf(job).status());
  ISTHMUS_RETURN_IF_ERROR(MakeRunFolder(job.folder));
  // A record must never be of other files than those beside it.
  ISTHMUS_RETURN_IF_ERROR(RemoveRunRecord(job.folder));
  retried_.insert(job.name);
  ISTHMUS_ASSIGN_OR_RETURN(
      auto process, RunProcess::Start(options_.launcher, job.arguments, job.folder + "/sweep.log", options_.threads));
  running_.push_back({job, std::move(claim), std::move(process), MonotonicSeconds()});
  return absl::OkStatus();
}

absl::Status Worker::EndSome() {
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
    // status is the launcher's. Slurm may send its signal to the jobs, too.
    const bool asked = stops_ || StopSignals::latest() != 0;
    if (WasAsked(*status) || (asked && IsLost(*status))) continue;
    ISTHMUS_RETURN_IF_ERROR(Keep(running, *status));
    ended = true;
  }
  if (ended) Say();
  return absl::OkStatus();
}

absl::Status Worker::Stop() {
  stops_ = true;
  for (int pauses = 0; !running_.empty(); ++pauses) {
    if (pauses % kPausesBetweenRequests == 0) {
      for (const Running& running : running_) running.process->AskToSave();
    }
    absl::SleepFor(kPause);
    ISTHMUS_RETURN_IF_ERROR(EndSome());
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Worker::IsTriedAgain(const Job& job, int exit_status, const std::string& reason) {
  if (!IsLost(exit_status) || options_.lost_runs == 0) return false;
  ISTHMUS_ASSIGN_OR_RETURN(const int64_t losses, CountLoss(job.claim));
  if (losses > options_.lost_runs) return false;
  const std::string what = absl::StrFormat("%s: lost (%d of %d times before it counts as failed): %s", job.name, losses,
                                           options_.lost_runs, reason);
  out_ << what << "\n";
  lost_ = absl::UnavailableError(absl::StrCat(what, "; start the sweep again to go on"));
  return true;
}

absl::Status Worker::Keep(const Running& running, int exit_status) {
  const Job& job = running.job;
  const RunRecord record = {.result = jobs_.ResultOf(job, exit_status),
                            .seconds = MonotonicSeconds() - running.start,
                            .settings = settings_[job.name]};
  ISTHMUS_ASSIGN_OR_RETURN(const bool again, IsTriedAgain(job, exit_status, record.result.reason));
  if (again) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(ForgetLosses(job.claim));
  ISTHMUS_RETURN_IF_ERROR(WriteRunRecord(job.folder, record));
  results_[job.name] = record.result;
  job_seconds_ += record.seconds;
  ++ended_;
  const bool finished = record.result.end == RunResult::End::kFinished;
  out_ << job.name << ": "
       << (finished ? jobs_.Describe(record.result)
                    : absl::StrCat(record.result.end == RunResult::End::kDiverged ? "diverged" : "failed", ": ",
                                   record.result.reason))
       << ", " << absl::StrFormat("%.1f s\n", record.seconds);
  return absl::OkStatus();
}

void Worker::Say() {
  const int64_t left = jobs_.Left(results_);
  const double seconds = static_cast<double>(left) * job_seconds_ / static_cast<double>(ended_ * options_.jobs);
  out_ << absl::StrFormat("%d of %d %s, %s left\n", results_.size(), static_cast<int64_t>(results_.size()) + left,
                          jobs_.Name(), DurationText(seconds));
  out_.flush();
}

}  // namespace isthmus::sweep
