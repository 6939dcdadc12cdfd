#include "launch/watch/rank_watch.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "launch/watch/hang_report.h"
#include "launch/watch/heartbeat.h"
#include "launch/watch/heartbeat_ages.h"
#include "parallel/wait_clock.h"
#include "runtime/caught.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::Duration kBeat = absl::Seconds(1);
// How long the heartbeats are looked at to see which are renewed.
constexpr absl::Duration kLook = absl::Seconds(6);
constexpr absl::Duration kLongestAge = absl::Seconds(10);
// Some hundred for each rank.
constexpr int64_t kMostReportBytes = int64_t{16} << 20;

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

// For what the job can't wait for: other ranks, libraries, file systems.
void EndProcessLater() {
  // Without a thread the launcher's own patience remains.
  Caught([] {
    std::thread([] {
      absl::SleepFor(RankWatch::kEnd);
      std::_Exit(kExitRankFailed);
    }).detach();
    return absl::OkStatus();
  }).IgnoreError();
}

}  // namespace

class RankWatch::State {
 public:
  State(std::shared_ptr<CollectiveRing> ring, std::string folder, int rank, int ranks, absl::Duration deadline,
        std::shared_ptr<Log> log)
      : ring_(std::move(ring)),
        folder_(std::move(folder)),
        rank_(rank),
        host_(HostName()),
        log_(std::move(log)),
        ages_(ranks, std::min(deadline / 2, kLongestAge)),
        sightings_(static_cast<size_t>(ranks)) {}

  int rank() const { return rank_; }
  int64_t stale() const { return stale_; }
  std::string HangPath() const { return folder_ + "/log/hang.txt"; }
  void RemoveHeartbeat() const {
    std::error_code error;
    std::filesystem::remove(HeartbeatPath(folder_, rank_), error);
  }

  absl::Status Beat() {
    const std::lock_guard lock(beat_mutex_);
    Heartbeat beat = HeartbeatOf(*ring_);
    beat.rank = rank_;
    beat.host = host_;
    beat.process = getpid();
    beat.beat = ++beat_;
    return WriteHeartbeat(HeartbeatPath(folder_, rank_), beat);
  }

  // Every rank says what it has been doing, for whoever reads the report.
  void WriteRing() const {
    std::ofstream(absl::StrFormat("%s/log/rank-%04d.collectives.jsonl", folder_, rank_)) << RingText(*ring_);
  }

  void Run() {
    WaitClock clock(absl::Now());
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, absl::ToChronoNanoseconds(kBeat), [&] { return stopping_; })) {
      lock.unlock();
      // For lack of memory a beat may fail; the next one may succeed.
      Caught([&] {
        OneBeat(clock.Elapsed(absl::Now()));
        return absl::OkStatus();
      }).IgnoreError();
      lock.lock();
    }
    done_ = true;
    changed_.notify_all();
  }

  // Once.
  void Report(const std::string& report) {
    if (!reported_.exchange(true)) log_->Error(report);
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
    if (!beat.ok()) return -1;
    sightings_[rank].heartbeat = *std::move(beat);
    return sightings_[rank].heartbeat->beat;
  }

  void OneBeat(absl::Duration now) {
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
      if (!beat.ok() || next_ == rank_) continue;
      const HeartbeatAges::News news = ages_.Observe(next_, beat->beat, now);
      if (news == HeartbeatAges::News::kBack) log_->Warning(absl::StrCat("rank ", next_, " shows signs of life again"));
      if (news != HeartbeatAges::News::kStale) continue;
      ++stale_;
      log_->Warning(absl::StrFormat(
          "rank %d (process %d on %s) has shown no sign of life for %.0f s; last seen in step %d, %s", next_,
          beat->process, beat->host, absl::ToDoubleSeconds(ages_.Age(next_, now)), beat->step, beat->phase));
    }
  }

  // A rank's deadline has passed.
  void Hang() {
    if (!hanging_) {
      WriteRing();
      // The training thread may hang where no deadline ends it, and never see the end of the job.
      EndProcessLater();
    }
    hanging_ = true;
    if (rank_ != 0 || reported_) return;
    // Rank 0's log is the one that people look at, whoever wrote the report.
    const auto report = ReadFile(HangPath(), kMostReportBytes);
    if (!report.ok() || report->empty()) return;
    Report(*report);
  }

  const std::shared_ptr<CollectiveRing> ring_;
  const std::string folder_;
  const int rank_;
  const std::string host_;
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
  if (world.size() == 1) return absl::OkStatus();
  auto state = std::make_shared<State>(ring_, folder, world.rank(), world.size(), deadline, std::move(log));
  std::error_code ignored;
  // Of an earlier start of the run.
  if (world.rank() == 0) std::filesystem::remove(state->HangPath(), ignored);
  absl::Status started = state->Beat();
  if (started.ok()) {
    started = Caught([&] {
      std::thread([kept = state] { kept->Run(); }).detach();
      return absl::OkStatus();
    });
  }
  if (started.ok()) state_ = std::move(state);
  return AgreeOnStatus(world, started);
}

absl::Status RankWatch::Explain(const absl::Status& status) {
  if (state_ == nullptr) return status;
  EndProcessLater();
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
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
  const std::string report = HangReport(ranks, status.message(), now);
  if (file >= 0) {
    // Without it the report still goes to this rank's log and to standard error.
    [[maybe_unused]] const ssize_t written = write(file, report.data(), report.size());
    close(file);
  }
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
