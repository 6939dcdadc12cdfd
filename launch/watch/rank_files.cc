#include "launch/watch/rank_files.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "launch/watch/hang_report.h"
#include "launch/watch/heartbeat.h"
#include "launch/watch/leftovers.h"

namespace isthmus {

void RemoveHangReports(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder + "/log", ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::string name = entry->path().filename();
    if (absl::StartsWith(name, "hang") && absl::EndsWith(name, ".txt")) unlink(entry->path().c_str());
  }
}

std::string HangReportPath(const std::string& folder) { return absl::StrCat(folder, "/log/hang.txt"); }

RankFiles::RankFiles(std::shared_ptr<CollectiveRing> ring, RankOfStart self)
    : ring_(std::move(ring)), self_(std::move(self)), host_(HostName()), birth_(ProcessBirth(getpid())) {}

absl::Status RankFiles::Beat() {
  const std::lock_guard lock(beat_mutex_);
  Heartbeat beat = HeartbeatOf(*ring_);
  beat.nonce = self_.mark.nonce;
  beat.since = self_.mark.since;
  beat.rank = self_.rank;
  beat.host = host_;
  beat.process = getpid();
  beat.birth = birth_;
  beat.beat = ++beat_;
  return WriteHeartbeat(HeartbeatPath(self_.folder, self_.rank), beat);
}

void RankFiles::RemoveHeartbeat() const {
  std::error_code error;
  std::filesystem::remove(HeartbeatPath(self_.folder, self_.rank), error);
}

void RankFiles::WriteRing() const {
  std::ofstream(absl::StrFormat("%s/log/rank-%04d.collectives.jsonl", self_.folder, self_.rank))
      << RingText(*ring_, self_.mark.nonce);
}

std::string RankFiles::HangPath() const { return absl::StrCat(self_.folder, "/log/hang-", self_.mark.nonce, ".txt"); }

RankFiles::Claim RankFiles::ClaimReport() const {
  const int file = open(HangPath().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  return {.file = file, .by_another = file < 0 && errno == EEXIST};
}

void RankFiles::WriteReport(const std::string& report, const Claim& claim) const {
  std::ofstream(HangReportPath(self_.folder)) << report;
  if (claim.file < 0) return;
  // If this write fails, the report still goes to this rank's log and to standard error.
  [[maybe_unused]] const ssize_t written = write(claim.file, report.data(), report.size());
  close(claim.file);
}

}  // namespace isthmus
