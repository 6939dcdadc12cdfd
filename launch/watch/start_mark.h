// Tells one start of a run from earlier and later ones in the same folder. A rank may be left over from an earlier
// start, because it was stopped or cut off when the other ranks were killed. It must not be taken for a rank of this
// start, and it has to find out that its own start is over.
//
// Rank 0 makes the mark and leaves it in folder/log/start. Files that ranks share in folder/log carry its nonce, and a
// reader ignores those with another one. A rank that finds the mark of a later start ends itself.
#ifndef ISTHMUS_LAUNCH_WATCH_START_MARK_H_
#define ISTHMUS_LAUNCH_WATCH_START_MARK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>

#include "parallel/communicator.h"

namespace isthmus {

// This is far above all that clocks say, and numbers can still be added to it.
inline constexpr int64_t kMostStartNumber = int64_t{1} << 62;

struct StartMark {
  std::string nonce;   // unique to this start
  int64_t number = 0;  // larger than those of earlier starts in the folder; 0 to kMostStartNumber
  std::string host;    // rank 0's
  int64_t process = 0;
  std::string since;  // when it was made, by rank 0's clock; for people

  // Returns "host H, process P, since T".
  std::string Describe() const;
};

// A process of a start has a rank, and a folder of the run.
struct RankOfStart {
  std::string folder;  // the run's
  StartMark mark;
  int rank = 0;
  int ranks = 1;  // of the start
};

// Makes a mark that knows no earlier one.
StartMark MarkOfThisProcess();
// Makes, on rank 0, the mark of a start that begins now, with a number above that of the folder's mark, if any.
StartMark NewStartMark(const std::string& folder);
// Writes the mark to the folder. Errors: by errno.
absl::Status WriteStartMark(const std::string& folder, const StartMark& mark);
// Errors: by errno; DataLoss if the file is not a whole mark.
absl::StatusOr<StartMark> ReadStartMark(const std::string& folder);
// Gives rank 0's mark to all ranks. Collective.
absl::Status ShareStartMark(Communicator& world, StartMark& mark);

// Looks for rank 0's `mark` in the folder as `rank` sees it. A network file system may show it late, so it looks up to
// `tries` times, after pauses that double. `pause` is the first one. Errors: FailedPrecondition if the mark is not
// there: this rank's folder is another one, on another file system for example.
absl::Status FindStartMark(const std::string& folder, const StartMark& mark, int rank, int tries, absl::Duration pause);

// Returns true if `found` is the mark of a later start than `mine`. A network file system may show an earlier mark for
// a while.
bool IsLater(const StartMark& found, const StartMark& mine);

std::string HostName();

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_START_MARK_H_
