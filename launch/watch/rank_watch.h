// Watches over the ranks of a run. It leaves this rank's heartbeat in the run folder. On rank 0 it warns of ranks whose
// heartbeat has stopped. When a collective has outlasted its deadline, it says who is late.
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
  // Works as Stop.
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  // Holds what training tells of itself.
  Whereabouts& whereabouts() { return ring_->whereabouts(); }

  // Starts to watch; every rank leaves its first heartbeat. The folder and its log exist. `deadline` is that of a
  // step's collectives. Rank 0 warns once half of it has passed without a heartbeat, but after ten seconds at the
  // latest. Marks the folder as this start's. Collective. Errors, on all ranks: by errno if a heartbeat can't be
  // written; ResourceExhausted if no thread can be started; those of FindStartMark (launch/watch/start_mark.h).
  absl::Status Start(const std::string& folder, absl::Duration deadline, Communicator& world, std::shared_ptr<Log> log);

  // Returns, on rank 0 after Start, messages for people about processes of earlier starts that still live.
  const std::vector<std::string>& leftovers() const { return leftovers_; }

  // Is called after a failure that leaves other ranks anywhere. Returns `status` with the report on the rank that makes
  // it. The other ranks wait until that rank ends the job. All living ranks write their rings. A process that still
  // lives kEnd later says so on standard error. It ends itself with status 4, whatever it waits for.
  absl::Status Explain(const absl::Status& status);
  static constexpr absl::Duration kEnd = absl::Seconds(20);

  // Is called when training has ended well on all ranks: takes the heartbeat away.
  void Stop();

  // Returns how often rank 0 has found a rank's heartbeat stale.
  int64_t stale_heartbeats() const;

 private:
  // Logs the leftovers. Messages that the log alone is not enough for go to leftovers(), too.
  void TellOfLeftovers(const Leftovers& found, Log& log);

  class State;  // shared with the thread, which a file system that hangs can keep

  const std::shared_ptr<CollectiveRing> ring_;
  std::shared_ptr<State> state_;
  std::vector<std::string> leftovers_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_RANK_WATCH_H_
