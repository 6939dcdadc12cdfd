// A rank leaves these files for other ranks and for people: its heartbeat, its ring of collectives, and the report of a
// hang. launch/watch/rank_watch.h lists them.
#ifndef ISTHMUS_LAUNCH_WATCH_RANK_FILES_H_
#define ISTHMUS_LAUNCH_WATCH_RANK_FILES_H_

#include <absl/status/status.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "launch/watch/start_mark.h"
#include "parallel/collective_ring.h"

namespace isthmus {

// Removes the reports of earlier starts.
void RemoveHangReports(const std::string& folder);

// Returns folder/log/hang.txt.
std::string HangReportPath(const std::string& folder);

// The class is thread-safe.
class RankFiles {
 public:
  // `self` is this process, whose folder and its log exist.
  RankFiles(std::shared_ptr<CollectiveRing> ring, RankOfStart self);

  // Writes the heartbeat. Errors: by errno.
  absl::Status Beat();
  void RemoveHeartbeat() const;

  // Writes the ring: every rank says what it has been doing, for whoever reads the report.
  void WriteRing() const;

  // Returns folder/log/hang-NONCE.txt.
  std::string HangPath() const;
  struct Claim {
    int file = -1;            // the descriptor of HangPath(), which this rank has made; or a negative number
    bool by_another = false;  // another rank has made it
  };
  // The rank that makes HangPath() writes the report. If none can make it, `file` is negative and each writes one.
  Claim ClaimReport() const;
  // Writes the report, and closes the file of the claim.
  void WriteReport(const std::string& report, const Claim& claim) const;

 private:
  const std::shared_ptr<CollectiveRing> ring_;
  const RankOfStart self_;
  const std::string host_;
  const int64_t birth_;

  std::mutex beat_mutex_;
  int64_t beat_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_RANK_FILES_H_
