// One start of a run, told from earlier and later ones in the same folder. A rank that is left over from an earlier
// start, because it was stopped or cut off when its mates were killed, must not be taken for one of this start, and has
// to find out that its own is over.
//
// Rank 0 makes the mark and leaves it in folder/log/start. What ranks share in folder/log has its nonce; whoever finds
// another one there passes it over. A rank that finds the mark of a later start ends itself.
#ifndef ISTHMUS_LAUNCH_WATCH_START_MARK_H_
#define ISTHMUS_LAUNCH_WATCH_START_MARK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

#include "parallel/communicator.h"

namespace isthmus {

struct StartMark {
  std::string nonce;   // of no other start
  int64_t number = 0;  // above those of earlier starts in the folder
  std::string host;    // rank 0's
  int64_t process = 0;
  std::string since;  // when it was made, by rank 0's clock; for people

  // "host H, process P, since T".
  std::string Describe() const;
};

// On rank 0: the mark of a start that begins now, after the one that the folder has, if any.
StartMark NewStartMark(const std::string& folder);
// Leaves it in the folder. Errors: by errno.
absl::Status WriteStartMark(const std::string& folder, const StartMark& mark);
// Errors: by errno; DataLoss for what is not a whole mark.
absl::StatusOr<StartMark> ReadStartMark(const std::string& folder);
// Rank 0's mark on all ranks. Collective.
absl::Status ShareStartMark(Communicator& world, StartMark& mark);

// Whether `found` is of a start after `mine`. A network file system may show an earlier one for a while.
bool IsLater(const StartMark& found, const StartMark& mine);

std::string HostName();

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_START_MARK_H_
