// Watches over the ranks of a run: leaves this rank's heartbeat in the run folder, on rank 0 warns of ranks whose
// heartbeat has stopped, and when a collective has outlasted its deadline says who is late.
//
// Files in folder/log:
//   start                        the mark of the latest start (launch/watch/start_mark.h)
//   rank-0001.heartbeat          of each rank (launch/watch/heartbeat.h)
//
// After a deadline has passed, also:
//   hang-NONCE.txt               tells the ranks of that start of it. The rank that makes it looks at all heartbeats
//                                and writes its report there.
//   hang.txt                     the same report, for people
//   rank-0001.collectives.jsonl  the ring of collectives of each rank that still lives
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

// A thread that no collective can hold up leaves the heartbeats. It ends the process with status 4 if it finds that a
// later start has taken the folder. Nothing is watched before Start, or in a world of one rank. The training thread
// uses this class.
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
  // Marks the folder as this start's. Errors, on all ranks: by errno if a heartbeat can't be written; ResourceExhausted
  // if no thread can be started; those of FindStartMark (launch/watch/start_mark.h).
  absl::Status Start(const std::string& folder, absl::Duration deadline, Communicator& world, std::shared_ptr<Log> log);

  // On rank 0, after Start: messages for people about processes of earlier starts that still live.
  const std::vector<std::string>& leftovers() const { return leftovers_; }

  // Called after a failure that leaves other ranks anywhere. Returns `status` with the report on the rank that makes
  // it; the other ranks wait until that rank ends the job. All living ranks write their rings. A process that still
  // lives kEnd later says so on standard error and ends itself with status 4, whatever it waits for.
  absl::Status Explain(const absl::Status& status);
  static constexpr absl::Duration kEnd = absl::Seconds(20);

  // Training has ended well on all ranks: takes the heartbeat away.
  void Stop();

  // How often rank 0 has found a rank's heartbeat stale.
  int64_t stale_heartbeats() const;

 private:
  // Logs what was found. Messages that the log alone is not enough for go to leftovers(), too.
  void TellOfLeftovers(const Leftovers& found, Log& log);

  class State;  // shared with the thread, which a file system that hangs can keep

  const std::shared_ptr<CollectiveRing> ring_;
  std::shared_ptr<State> state_;
  std::vector<std::string> leftovers_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_RANK_WATCH_H_
