// Looks at the heartbeats of all ranks of a start, for the report of a hang.
#ifndef ISTHMUS_LAUNCH_WATCH_RANK_SIGHTINGS_H_
#define ISTHMUS_LAUNCH_WATCH_RANK_SIGHTINGS_H_

#include <absl/functional/function_ref.h>

#include <vector>

#include "launch/watch/hang_report.h"
#include "launch/watch/start_mark.h"

namespace isthmus {

// Returns the heartbeats of all ranks, and which of them are not renewed during wait(). It must last longer than the
// time from a beat to the next. `self` is the rank that looks.
std::vector<RankSighting> LookAtRanks(const RankOfStart& self, absl::FunctionRef<void()> wait);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_RANK_SIGHTINGS_H_
