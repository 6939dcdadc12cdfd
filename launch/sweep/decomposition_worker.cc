#include "launch/sweep/decomposition_worker.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "launch/sweep/decomposition_figures.h"
#include "launch/sweep/lost_runs.h"
#include "launch/sweep/run_record.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr absl::Duration kShortWait = absl::Milliseconds(20);
constexpr absl::Duration kWaitForOthers = absl::Seconds(1);
constexpr int kWaitsBetweenRequests = 50;  // about a second

// Returns how a decomposition ended.
RunResult ResultOfDecomposition(const std::string& folder, int exit_status) {
  if (exit_status != 0) return FailureOf(exit_status, folder + "/sweep.log");
  const auto figures = ReadDecomposition(FiguresPath(folder));
  if (figures.ok()) return {.loss = figures->loss};
  return {.end = RunResult::End::kFailed, .reason = std::string(figures.status().message())};
}

}  // namespace

absl::Status DecompositionWorker::Work(absl::Span<const PlannedDecomposition> planned) {
  for (;;) {
    ISTHMUS_RETURN_IF_ERROR(EndSome());
    if (const int signal = signals_.received(); signal != 0) {
      ISTHMUS_RETURN_IF_ERROR(Stop());
      return absl::CancelledError(
          absl::StrCat(SignalName(signal), ": the sweep's runs have ended; start it again for the decompositions"));
    }
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<PlannedDecomposition> lacking, Refresh(planned));
    if (lacking.empty() && running_.empty()) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(StartSome(lacking));
    absl::SleepFor(running_.empty() ? kWaitForOthers : kShortWait);
  }
}

absl::StatusOr<std::vector<PlannedDecomposition>> DecompositionWorker::Refresh(
    absl::Span<const PlannedDecomposition> planned) {
  std::vector<PlannedDecomposition> lacking;
  for (const PlannedDecomposition& one : planned) {
    if (results_.count(one.name) > 0) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const bool read, Read(one));
    if (!read) lacking.push_back(one);
  }
  return lacking;
}

const std::string& DecompositionWorker::DigestOf(const PlannedDecomposition& planned) {
  std::string& digest = digests_[planned.name];
  if (digest.empty()) digest = DecompositionDigest(config_, planned);
  return digest;
}

absl::StatusOr<bool> DecompositionWorker::Read(const PlannedDecomposition& planned) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::optional<RunRecord> record,
                           ReadRunRecord(FolderOfDecomposition(config_, planned)));
  if (!record.has_value() || record->settings != DigestOf(planned)) return false;
  const bool failed = record->result.end != RunResult::End::kFinished;
  if (failed && options_.retry_failed && retried_.count(planned.name) == 0) return false;
  results_[planned.name] = record->result;
  return true;
}

absl::Status DecompositionWorker::StartSome(absl::Span<const PlannedDecomposition> lacking) {
  const auto is_here = [&](const PlannedDecomposition& planned) {
    return std::any_of(running_.begin(), running_.end(),
                       [&](const Running& running) { return running.planned.name == planned.name; });
  };
  for (const PlannedDecomposition& planned : lacking) {
    if (static_cast<int>(running_.size()) >= options_.jobs) return absl::OkStatus();
    if (is_here(planned)) continue;
    auto claim =
        RunLock::Take(absl::StrCat(config_.folder(), "/claims/decompositions/", planned.name),
                      {.patience = absl::ZeroDuration(), .stop = [] { return false; }, .note = [](const auto&) {}});
    if (absl::IsFailedPrecondition(claim.status())) continue;  // another worker's
    ISTHMUS_RETURN_IF_ERROR(claim.status());
    // Perhaps it has just ended there.
    ISTHMUS_ASSIGN_OR_RETURN(const bool ended, Read(planned));
    if (!ended) ISTHMUS_RETURN_IF_ERROR(Start(planned, *std::move(claim)));
  }
  return absl::OkStatus();
}

absl::Status DecompositionWorker::Start(const PlannedDecomposition& planned, std::unique_ptr<RunLock> claim) {
  const std::string folder = FolderOfDecomposition(config_, planned);
  ISTHMUS_RETURN_IF_ERROR(MakeRunFolder(folder));
  // A record must never be of other figures than those beside it.
  ISTHMUS_RETURN_IF_ERROR(RemoveRunRecord(folder));
  retried_.insert(planned.name);
  std::vector<std::string> line = ArgumentsOf(config_, planned);
  line.insert(line.end(), {"--json", FiguresPath(folder)});
  ISTHMUS_ASSIGN_OR_RETURN(auto process,
                           RunProcess::Start(options_.launcher, line, folder + "/sweep.log", options_.threads));
  running_.push_back({planned, std::move(claim), std::move(process), MonotonicSeconds()});
  return absl::OkStatus();
}

absl::Status DecompositionWorker::EndSome() {
  for (size_t i = 0; i < running_.size();) {
    const std::optional<int> status = running_[i].process->Ended();
    if (!status.has_value()) {
      ++i;
      continue;
    }
    const Running running = std::move(running_[i]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    // One that was asked to end has no record, and is made another time. A launcher has a status of its own for that.
    const bool given_up = signals_.received() != 0 && IsLost(*status);
    if (!WasAsked(*status) && !given_up) ISTHMUS_RETURN_IF_ERROR(Keep(running, *status));
  }
  return absl::OkStatus();
}

absl::Status DecompositionWorker::Stop() {
  for (int waits = 0; !running_.empty(); ++waits) {
    if (waits % kWaitsBetweenRequests == 0) {
      for (const Running& running : running_) running.process->AskToSave();
    }
    absl::SleepFor(kShortWait);
    ISTHMUS_RETURN_IF_ERROR(EndSome());
  }
  return absl::OkStatus();
}

absl::Status DecompositionWorker::Keep(const Running& running, int exit_status) {
  const std::string folder = FolderOfDecomposition(config_, running.planned);
  const RunRecord record = {.result = ResultOfDecomposition(folder, exit_status),
                            .seconds = MonotonicSeconds() - running.start,
                            .settings = DigestOf(running.planned)};
  ISTHMUS_RETURN_IF_ERROR(WriteRunRecord(folder, record));
  results_[running.planned.name] = record.result;
  const bool finished = record.result.end == RunResult::End::kFinished;
  out_ << running.planned.name << ": " << (finished ? "decomposed" : absl::StrCat("failed: ", record.result.reason))
       << absl::StrFormat(", %.1f s\n", record.seconds);
  out_.flush();
  return absl::OkStatus();
}

}  // namespace isthmus::sweep
