// Watches over the ranks of a run: leaves this rank's heartbeat in the run folder, on rank 0 warns of ranks whose
// heartbeat has stopped, and when a collective has outlasted its deadline says who is late.
//
// Files, in folder/log: start, the mark of the latest start (launch/watch/start_mark.h); rank-0001.heartbeat of each
// rank (launch/watch/heartbeat.h). Once a deadline has passed also hang-NONCE.txt, by which the ranks of that start
// know of it, made by the rank that then looks at all heartbeats and writes its report there, and to hang.txt for
// people; and, by every rank that still lives, rank-0001.collectives.jsonl with its ring of collectives.
#ifndef ISTHMUS_LAUNCH_WATCH_RANK_WATCH_H_
#define ISTHMUS_LAUNCH_WATCH_RANK_WATCH_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/collective_ring.h"
#include "parallel/communicator.h"
#include "runtime/log.h"

namespace isthmus {

struct Leftovers;  // launch/watch/leftovers.h

// A heartbeat comes from a thread that no collective can hold up, and which ends the process, with status 4, where it
// finds that a later start has the folder. Until Start, and in a world of one rank, nothing is watched. Used by the
// training thread.
class RankWatch {
 public:
  explicit RankWatch(std::shared_ptr<CollectiveRing> ring) : ring_(std::move(ring)) {}
  // As Stop.
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  // What training tells of itself.
  Whereabouts& whereabouts() { return ring_->whereabouts(); }

  // Collective; every rank leaves its first heartbeat. The folder and its log exist. `deadline`: of a step's
  // collectives; rank 0 warns once half of it has passed without a heartbeat, but after ten seconds at the latest.
  // Marks the folder as this start's. Errors: by errno, where a heartbeat can't be written; ResourceExhausted where no
  // thread can be started; on all ranks.
  absl::Status Start(const std::string& folder, absl::Duration deadline, Communicator& world, std::shared_ptr<Log> log);

  // On rank 0, after Start: what people should know of processes of earlier starts that still live.
  const std::vector<std::string>& leftovers() const { return leftovers_; }

  // After a failure that leaves other ranks anywhere: `status` with the report, for the rank that makes it. Others wait
  // for the end of the job that the report's rank brings about. All ranks that live write their rings; a process that
  // still lives kEnd later says so on standard error and ends itself with status 4, whatever it waits for.
  absl::Status Explain(const absl::Status& status);
  static constexpr absl::Duration kEnd = absl::Seconds(20);

  // Training has ended well on all ranks: takes the heartbeat away.
  void Stop();

  // How often rank 0 has found a rank's heartbeat stale.
  int64_t stale_heartbeats() const;

 private:
  // To the log, and to leftovers() what concerns more than the log.
  void TellOfLeftovers(const Leftovers& found, Log& log);

  class State;  // shared with the thread, which a file system that hangs can keep

  const std::shared_ptr<CollectiveRing> ring_;
  std::shared_ptr<State> state_;
  std::vector<std::string> leftovers_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_RANK_WATCH_H_
