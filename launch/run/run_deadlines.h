// A run's collectives have two deadlines.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_DEADLINES_H_
#define ISTHMUS_LAUNCH_RUN_RUN_DEADLINES_H_

#include <absl/time/time.h>

#include "proto/config.pb.h"

namespace isthmus {

// Returns the long one: for setting up, saving and restoring, where a rank may wait for another one's files.
inline absl::Duration SetupDeadline(const proto::RunConfig& config) {
  return absl::Seconds(config.mesh().setup_timeout_seconds());
}

// Returns the short one: for steps, in which all ranks do the same at the same time.
inline absl::Duration StepDeadline(const proto::RunConfig& config) {
  return absl::Seconds(config.mesh().collective_timeout_seconds());
}

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_DEADLINES_H_
