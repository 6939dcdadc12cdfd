// The latest collectives of a process. They tell what its rank was doing when a wait outlasted its deadline.
#ifndef ISTHMUS_PARALLEL_COLLECTIVE_RING_H_
#define ISTHMUS_PARALLEL_COLLECTIVE_RING_H_

#include <absl/base/thread_annotations.h>

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/whereabouts.h"

namespace isthmus {

// A group of ranks. The same name and root mean the same group on all its ranks.
struct CollectiveGroup {
  std::string name;      // "world", "tensor", "data"; a group by NCCL is "tensor by NCCL"
  int root = 0;          // world rank of its first rank
  int size = 1;          // ranks
  int64_t started = -1;  // sequence number of the latest collective that this rank has entered
};

// An operation of a group.
struct CollectiveEntry {
  int group = 0;          // its place in CollectiveRing::groups()
  int64_t sequence = -1;  // of a collective, from 0: all ranks of the group count alike
  int peer = -1;          // of a message instead: the other rank's world rank
  const char* operation = "";
  int64_t bytes = 0;
  int64_t start = 0, end = 0;  // nanoseconds since 1970; end 0: has not ended
  Whereabouts::Place place;    // where training was at its start
};

// A process has one ring, and all its communicators write to it. An operation costs about 0.1 microseconds and
// allocates no memory. It is thread-safe but for whereabouts(), which says what it allows.
class CollectiveRing {
 public:
  static constexpr size_t kLength = 128;

  Whereabouts& whereabouts() { return whereabouts_; }
  const Whereabouts& whereabouts() const { return whereabouts_; }

  // Returns the place of a group. A group that has been there before gets the same place, and counts from 0 again.
  int AddGroup(const std::string& name, int root, int size);

  // An operation starts; the result names it in End and Wait.
  int64_t Start(int group, int64_t sequence, const char* operation, int64_t bytes);
  void End(int64_t number);
  int64_t StartMessage(int group, int peer, const char* operation, int64_t bytes);
  // Notes that all collectives of a group before this one have ended. For those on a GPU this is found out later.
  void EndBefore(int group, int64_t sequence);
  // Notes that the training thread waits for other ranks to end this operation, until End or for ever.
  void Wait(int64_t number);
  void Wait(int group, int64_t sequence);

  std::vector<CollectiveGroup> groups() const;
  // The operation that is waited for; its `place` is that of the wait.
  std::optional<CollectiveEntry> waiting() const;
  // The latest kLength operations, oldest first.
  std::vector<CollectiveEntry> entries() const;

 private:
  int64_t Add(const CollectiveEntry& entry);
  CollectiveEntry& At(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return entries_[static_cast<size_t>(number) % kLength];
  }

  Whereabouts whereabouts_;
  mutable std::mutex mutex_;
  std::vector<CollectiveGroup> groups_ ABSL_GUARDED_BY(mutex_);
  std::array<CollectiveEntry, kLength> entries_ ABSL_GUARDED_BY(mutex_);
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_number_ ABSL_GUARDED_BY(mutex_) = -1;
  std::optional<CollectiveEntry> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_COLLECTIVE_RING_H_
