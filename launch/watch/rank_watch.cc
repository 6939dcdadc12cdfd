#include "launch/watch/rank_watch.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "launch/watch/hang_report.h"
#include "launch/watch/heartbeat.h"
#include "launch/watch/heartbeat_ages.h"
#include "launch/watch/leftovers.h"
#include "launch/watch/start_mark.h"
#include "parallel/wait_clock.h"
#include "runtime/caught.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::Duration kBeat = absl::Seconds(1);
// How long the heartbeats are looked at to see which are renewed.
constexpr absl::Duration kLook = absl::Seconds(6);
constexpr absl::Duration kLongestAge = absl::Seconds(10);
// How often and after which first pause a rank looks for rank 0's mark: 6.3 s in all.
constexpr int kMarkTries = 7;
constexpr absl::Duration kMarkPause = absl::Milliseconds(100);
// The number of a mark that is not in the folder. It is one that ranks accept from each other.
constexpr int64_t kNoMark = kMostStartNumber;
// Far more than a report has, which takes some hundred bytes per rank.
constexpr int64_t kMostReportBytes = int64_t{16} << 20;

std::string LogFile(const std::string& folder, absl::string_view name) { return absl::StrCat(folder, "/log/", name); }

// Ends the process at once, whatever other threads wait for. A terminal or pipe that nobody reads must not delay it.
[[noreturn]] void EndProcess(absl::string_view last_words) {
  // A pipe with room takes this much without a wait.
  const std::string text = absl::StrCat("isthmus: ", last_words, "\n").substr(0, PIPE_BUF);
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&room, 1, /*timeout=*/1000) == 1) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  }
  std::_Exit(kExitRankFailed);
}

// Removes the reports of earlier starts.
void RemoveHangReports(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder + "/log", ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::string name = entry->path().filename();
    if (absl::StartsWith(name, "hang") && absl::EndsWith(name, ".txt")) unlink(entry->path().c_str());
  }
}

}  // namespace

class RankWatch::State {
 public:
  State(std::shared_ptr<CollectiveRing> ring, std::string folder, StartMark mark, int rank, int ranks,
        absl::Duration deadline, std::shared_ptr<Log> log)
      : ring_(std::move(ring)),
        folder_(std::move(folder)),
        mark_(std::move(mark)),
        rank_(rank),
        host_(HostName()),
        birth_(ProcessBirth(getpid())),
        log_(std::move(log)),
        ages_(ranks, std::min(deadline / 2, kLongestAge)),
        sightings_(static_cast<size_t>(ranks)) {}

  int rank() const { return rank_; }
  int64_t stale() const { return stale_; }
  std::string HangPath() const { return LogFile(folder_, absl::StrCat("hang-", mark_.nonce, ".txt")); }
  void RemoveHeartbeat() const {
    std::error_code error;
    std::filesystem::remove(HeartbeatPath(folder_, rank_), error);
  }

  // Called before this process writes to the folder. It may have been stopped while its job was ended, and another
  // start may use the folder now.
  void EndIfLeftOver() const {
    const auto found = ReadStartMark(folder_);
    if (!found.ok() || !IsLater(*found, mark_)) return;
    EndProcess(absl::StrCat("rank ", rank_, ": ", folder_, ": a later start of the run (", found->Describe(),
                            ") is there; this process, of the start of ", mark_.since, ", is left over and ends"));
  }

  // Ends the process after kEnd even if other ranks, libraries or file systems hold it up.
  void EndProcessLater() const {
    std::string words = absl::StrCat("rank ", rank_, ": the job has not ended ", absl::FormatDuration(kEnd),
                                     " after a rank failed or a collective hung: this process ends itself; see ",
                                     LogFile(folder_, "hang.txt"));
    // If no thread can be started, the launcher's own time limit remains.
    Caught([&] {
      std::thread([words = std::move(words)] {
        absl::SleepFor(kEnd);
        EndProcess(words);
      }).detach();
      return absl::OkStatus();
    }).IgnoreError();
  }

  absl::Status Beat() {
    const std::lock_guard lock(beat_mutex_);
    Heartbeat beat = HeartbeatOf(*ring_);
    beat.nonce = mark_.nonce;
    beat.since = mark_.since;
    beat.rank = rank_;
    beat.host = host_;
    beat.process = getpid();
    beat.birth = birth_;
    beat.beat = ++beat_;
    return WriteHeartbeat(HeartbeatPath(folder_, rank_), beat);
  }

  // Every rank says what it has been doing, for whoever reads the report.
  void WriteRing() const {
    std::ofstream(absl::StrFormat("%s/log/rank-%04d.collectives.jsonl", folder_, rank_))
        << RingText(*ring_, mark_.nonce);
  }

  void Run() {
    WaitClock clock(MonotonicNow());
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, absl::ToChronoNanoseconds(kBeat), [&] { return stopping_; })) {
      lock.unlock();
      // A beat may fail for lack of memory; the next one may succeed.
      Caught([&] {
        OneBeat(clock.Elapsed(MonotonicNow()));
        return absl::OkStatus();
      }).IgnoreError();
      lock.lock();
    }
    done_ = true;
    changed_.notify_all();
  }

  // `claim`: the descriptor of the file HangPath() that this rank has made, or a negative number.
  void WriteReport(const std::string& report, int claim) const {
    std::ofstream(LogFile(folder_, "hang.txt")) << report;
    if (claim < 0) return;
    // If this write fails, the report still goes to this rank's log and to standard error.
    [[maybe_unused]] const ssize_t written = write(claim, report.data(), report.size());
    close(claim);
  }

  // Once.
  void Report(const std::string& report) {
    if (reported_.exchange(true)) return;
    log_->Error(report);
    // The log is flushed because the job is about to end.
    log_->Flush();
  }

  // Whether the thread has ended, at most a while from now.
  bool AskToStop() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] { return done_; });
  }

  // The heartbeats of all ranks, and which of them are not renewed.
  const std::vector<RankSighting>& Look() {
    std::vector<int64_t> beats;
    for (size_t rank = 0; rank < sightings_.size(); ++rank) beats.push_back(Read(rank));
    absl::SleepFor(kLook);
    for (size_t rank = 0; rank < sightings_.size(); ++rank) sightings_[rank].silent = Read(rank) == beats[rank];
    // When even this rank's file is not renewed the file system is to blame, and says nothing of others.
    if (sightings_[static_cast<size_t>(rank_)].silent) {
      for (RankSighting& sighting : sightings_) sighting.silent = false;
    }
    return sightings_;
  }

 private:
  // The rank's beat; -1 where none can be read.
  int64_t Read(size_t rank) {
    auto beat = ReadHeartbeat(HeartbeatPath(folder_, static_cast<int>(rank)));
    // The page may have been read while it was written.
    if (absl::IsDataLoss(beat.status())) beat = ReadHeartbeat(HeartbeatPath(folder_, static_cast<int>(rank)));
    if (!beat.ok() || beat->nonce != mark_.nonce) return -1;
    sightings_[rank].heartbeat = *std::move(beat);
    return sightings_[rank].heartbeat->beat;
  }

  void OneBeat(absl::Duration now) {
    EndIfLeftOver();
    const absl::Status written = Beat();
    if (written.ok() != written_) {
      log_->Warning(written.ok() ? "the heartbeat is written again" : std::string(written.message()));
    }
    written_ = written.ok();
    if (std::filesystem::exists(HangPath(), ignored_)) Hang();
    if (rank_ == 0 && written_) LookForStale(now);
  }

  void LookForStale(absl::Duration now) {
    // Many small files on a shared file system: no more than a hundred a second.
    const auto ranks = static_cast<int>(sightings_.size());
    for (int looks = 0; looks < std::min(ranks, 100); ++looks) {
      next_ = (next_ + 1) % ranks;
      const auto beat = ReadHeartbeat(HeartbeatPath(folder_, next_));
      if (!beat.ok()) continue;
      if (beat->nonce != mark_.nonce) LookAtLeftover(*beat);
      if (beat->nonce != mark_.nonce || next_ == rank_) continue;
      const HeartbeatAges::News news = ages_.Observe(next_, beat->beat, now);
      if (news == HeartbeatAges::News::kBack) log_->Warning(absl::StrCat("rank ", next_, " shows signs of life again"));
      if (news != HeartbeatAges::News::kStale) continue;
      ++stale_;
      log_->Warning(absl::StrFormat(
          "rank %d (process %d on %s) has shown no sign of life for %.0f s; last seen in step %d, %s", next_,
          beat->process, beat->host, absl::ToDoubleSeconds(ages_.Age(next_, now)), beat->step, beat->phase));
    }
  }

  // Handles a heartbeat that stands in place of one of this start. An earlier start left it, or still renews it.
  void LookAtLeftover(const Heartbeat& beat) {
    Heartbeat& before = leftovers_[beat.rank];
    const bool known = before.nonce == beat.nonce && before.process == beat.process;
    if (known && beat.beat > before.beat && told_.insert(DescribeLeftover(beat)).second) {
      log_->Warning(
          absl::StrCat(DescribeLeftover(beat), " still lives and writes to the run folder; it is passed over"));
    }
    before = beat;
  }

  // A rank's deadline has passed.
  void Hang() {
    if (!std::exchange(hanging_, true)) {
      // The training thread may hang where no deadline ends it, and never see the end of the job.
      EndProcessLater();
      WriteRing();
    }
    if (rank_ != 0 || reported_) return;
    // Rank 0's log is the one that people look at, whoever wrote the report.
    const auto report = ReadFile(HangPath(), kMostReportBytes);
    if (!report.ok() || report->empty()) return;
    Report(*report);
  }

  const std::shared_ptr<CollectiveRing> ring_;
  const std::string folder_;
  const StartMark mark_;
  const int rank_;
  const std::string host_;
  const int64_t birth_;
  const std::shared_ptr<Log> log_;

  std::mutex beat_mutex_;
  int64_t beat_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false, done_ = false;

  // The thread's.
  bool written_ = true, hanging_ = false;
  int next_ = 0;  // whose heartbeat is read next
  HeartbeatAges ages_;
  std::map<int, Heartbeat> leftovers_;  // by rank, as last seen
  std::set<std::string> told_;          // descriptions of leftovers that were logged
  std::error_code ignored_;
  std::atomic<int64_t> stale_ = 0;
  std::atomic<bool> reported_ = false;
  // The training thread's.
  std::vector<RankSighting> sightings_;
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
  auto state = std::make_shared<State>(ring_, folder, mark, world.rank(), world.size(), deadline, std::move(log));
  absl::Status started = state->Beat();
  // If the disk has no room for a heartbeat, the others know less of a rank that hangs. The beat is tried again every
  // second.
  if (absl::IsResourceExhausted(started)) started = absl::OkStatus();
  // The rank's own heartbeat, which is a new entry there, makes a network file system look at the folder again.
  if (started.ok() && mark.number != kNoMark) {
    started = FindStartMark(folder, mark, world.rank(), kMarkTries, kMarkPause);
    if (!started.ok()) state->RemoveHeartbeat();
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
  if (state_ == nullptr) return status;
  state_->EndProcessLater();
  state_->EndIfLeftOver();
  state_->Beat().IgnoreError();
  state_->WriteRing();
  // Rank 0 makes the report where it can: its log is the one that people look at.
  if (state_->rank() != 0) absl::SleepFor(kBeat);
  const int file = open(state_->HangPath().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0 && errno == EEXIST) {
    absl::SleepFor(kEnd);
    return status;
  }
  const std::vector<RankSighting>& ranks = state_->Look();
  const std::string report = HangReport(ranks, status.message());
  state_->WriteReport(report, file);
  state_->Report(report);
  if (state_->rank() != 0) absl::SleepFor(2 * kBeat);
  return absl::Status(status.code(), report);
}

void RankWatch::Stop() {
  if (state_ == nullptr) return;
  if (state_->AskToStop()) state_->RemoveHeartbeat();
  state_.reset();
}

int64_t RankWatch::stale_heartbeats() const { return state_ == nullptr ? 0 : state_->stale(); }

}  // namespace isthmus
