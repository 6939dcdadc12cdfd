#include "launch/watch/rank_watch.h"

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "launch/watch/hang_report.h"
#include "launch/watch/heartbeat.h"
#include "launch/watch/leftovers.h"
#include "launch/watch/other_ranks.h"
#include "launch/watch/process_end.h"
#include "launch/watch/rank_files.h"
#include "launch/watch/rank_sightings.h"
#include "launch/watch/repetition.h"
#include "launch/watch/start_mark.h"
#include "parallel/wait_clock.h"
#include "runtime/caught.h"
#include "runtime/durable_file.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::Duration kBeat = absl::Seconds(1);
// The heartbeats are looked at for this long to see which are renewed.
constexpr absl::Duration kLook = absl::Seconds(6);
constexpr absl::Duration kLongestAge = absl::Seconds(10);
// A thread that is asked to stop is waited for this long.
constexpr absl::Duration kStopPatience = absl::Seconds(5);
// A rank looks for rank 0's mark so often, after this first pause: 6.3 s in all.
constexpr int kMarkTries = 7;
constexpr absl::Duration kMarkPause = absl::Milliseconds(100);
// This is the number of a mark that is not in the folder. Ranks accept it from each other.
constexpr int64_t kNoMark = kMostStartNumber;
// This is far more than a report has, which takes some hundred bytes per rank.
constexpr int64_t kMostReportBytes = int64_t{16} << 20;

}  // namespace

class RankWatch::State {
 public:
  State(std::shared_ptr<CollectiveRing> ring, RankOfStart self, absl::Duration deadline, std::shared_ptr<Log> log)
      : self_(std::move(self)),
        log_(std::move(log)),
        files_(std::move(ring), self_),
        others_(self_, std::min(deadline / 2, kLongestAge), log_) {}

  RankFiles& files() { return files_; }
  int64_t stale() const { return others_.stale(); }

  // This is the thread's work.
  void Run() {
    WaitClock clock(MonotonicNow());
    repetition_.Run(kBeat, [&] {
      // A beat may fail for lack of memory; the next one may succeed.
      Caught([&] {
        OneBeat(clock.Elapsed(MonotonicNow()));
        return absl::OkStatus();
      }).IgnoreError();
    });
  }

  // Returns whether the thread has ended, at most a while from now.
  bool AskToStop() { return repetition_.AskToStop(kStopPatience); }

  absl::Status Explain(const absl::Status& status) {
    EndThisProcessLater();
    EndIfLeftOver(self_);
    files_.Beat().IgnoreError();
    files_.WriteRing();
    // Rank 0 makes the report if it can: its log is the one that people look at.
    if (self_.rank != 0) absl::SleepFor(kBeat);
    const RankFiles::Claim claim = files_.ClaimReport();
    if (claim.by_another) {
      absl::SleepFor(kEnd);
      return status;
    }
    const std::vector<RankSighting> ranks = LookAtRanks(self_, [] { absl::SleepFor(kLook); });
    const std::string report = HangReport(ranks, status.message());
    files_.WriteReport(report, claim);
    Report(report);
    if (self_.rank != 0) absl::SleepFor(2 * kBeat);
    return absl::Status(status.code(), report);
  }

 private:
  void EndThisProcessLater() const {
    EndProcessLater(absl::StrCat("rank ", self_.rank, ": the job has not ended ", absl::FormatDuration(kEnd),
                                 " after a rank failed or a collective hung: this process ends itself; see ",
                                 HangReportPath(self_.folder)),
                    kEnd);
  }

  // Is called once.
  void Report(const std::string& report) {
    if (reported_.exchange(true)) return;
    log_->Error(report);
    // The log is flushed because the job is about to end.
    log_->Flush();
  }

  void OneBeat(absl::Duration now) {
    EndIfLeftOver(self_);
    const absl::Status written = files_.Beat();
    if (written.ok() != written_) {
      log_->Warning(written.ok() ? "the heartbeat is written again" : std::string(written.message()));
    }
    written_ = written.ok();
    if (std::error_code ignored; std::filesystem::exists(files_.HangPath(), ignored)) Hang();
    if (self_.rank == 0 && written_) others_.Look(now);
  }

  // Is called when a rank's deadline has passed.
  void Hang() {
    if (!std::exchange(hanging_, true)) {
      // The training thread may hang where no deadline ends it, and never see the end of the job.
      EndThisProcessLater();
      files_.WriteRing();
    }
    if (self_.rank != 0 || reported_) return;
    // Rank 0's log is the one that people look at, whoever wrote the report.
    const auto report = ReadFile(files_.HangPath(), kMostReportBytes);
    if (!report.ok() || report->empty()) return;
    Report(*report);
  }

  const RankOfStart self_;
  const std::shared_ptr<Log> log_;
  RankFiles files_;
  Repetition repetition_;
  std::atomic<bool> reported_ = false;

  // These are the thread's.
  bool written_ = true, hanging_ = false;
  OtherRanks others_;
};

RankWatch::~RankWatch() {
  if (state_ != nullptr) state_->AskToStop();
}

absl::Status RankWatch::Start(const std::string& folder, absl::Duration deadline, Communicator& world,
                              std::shared_ptr<Log> log) {
  ISTHMUS_ASSIGN_OR_RETURN(const Leftovers leftovers, FindLeftovers(folder, world));
  StartMark mark;
  if (world.rank() == 0) {
    TellOfLeftovers(leftovers, *log);
    RemoveHangReports(folder);
    mark = NewStartMark(folder);
    if (const absl::Status written = WriteStartMark(folder, mark); !written.ok()) {
      log->Warning(absl::StrCat("no rank of this start will notice a later one: ", written.message()));
      // The number is above any mark that the folder may still have.
      mark.number = kNoMark;
    }
  }
  ISTHMUS_RETURN_IF_ERROR(ShareStartMark(world, mark));
  if (world.size() == 1) return absl::OkStatus();
  RankOfStart self{.folder = folder, .mark = mark, .rank = world.rank(), .ranks = world.size()};
  auto state = std::make_shared<State>(ring_, std::move(self), deadline, std::move(log));
  absl::Status started = state->files().Beat();
  // If the disk has no room for a heartbeat, the others know less of a rank that hangs. The beat is tried again every
  // second.
  if (absl::IsResourceExhausted(started)) started = absl::OkStatus();
  // The rank's own heartbeat, which is a new entry there, makes a network file system look at the folder again.
  if (started.ok() && mark.number != kNoMark) {
    started = FindStartMark(folder, mark, world.rank(), kMarkTries, kMarkPause);
    if (!started.ok()) state->files().RemoveHeartbeat();
  }
  if (started.ok()) {
    started = Caught([&] {
      std::thread([kept = state] { kept->Run(); }).detach();
      return absl::OkStatus();
    });
  }
  if (started.ok()) state_ = std::move(state);
  return AgreeOnStatus(world, started);
}

void RankWatch::TellOfLeftovers(const Leftovers& found, Log& log) {
  for (const Heartbeat& beat : found.alive) {
    leftovers_.push_back(
        absl::StrCat(DescribeLeftover(beat), " still lives; it ends itself once it runs and finds this start"));
    log.Warning(leftovers_.back());
  }
  for (const Heartbeat& beat : found.elsewhere) {
    log.Info(absl::StrCat(DescribeLeftover(beat), " did not end well; whether it lives is not known here"));
  }
}

absl::Status RankWatch::Explain(const absl::Status& status) {
  return state_ == nullptr ? status : state_->Explain(status);
}

void RankWatch::Stop() {
  if (state_ == nullptr) return;
  if (state_->AskToStop()) state_->files().RemoveHeartbeat();
  state_.reset();
}

int64_t RankWatch::stale_heartbeats() const { return state_ == nullptr ? 0 : state_->stale(); }

}  // namespace isthmus
