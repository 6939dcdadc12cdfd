// Opens the telemetry sinks of a run, as its configuration wants them.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_
#define ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <memory>

#include "proto/config.pb.h"
#include "runtime/telemetry/sinks.h"

namespace isthmus {

struct SinksOpening {
  int64_t first_step = 0;       // of the first record
  bool continued = false;       // the folder's own records of earlier steps stay, others are cut off
  bool while_training = false;  // what can't be opened costs the records until it can (launch/run/late_sink.h)
  // If true, a full disk costs only records as well, and no other error does. A run that was there already goes on as
  // if it had not stopped.
  bool bears_full_disk = false;
};

// Opens the sinks. Rank 0's have the cluster's figures, in the run folder and over HTTP. Another rank's show its own
// figures, and there may be none. Errors, except while training or on a full disk: AlreadyExists if the folder holds a
// run that is not continued; by errno for its files.
absl::StatusOr<std::unique_ptr<Sinks>> OpenSinks(const proto::RunConfig& config, int rank, int local_rank,
                                                 const SinksOpening& opening);

// Errors: InvalidArgument if `every_rank` is to be shown at ports that this rank's place on its node makes too large.
absl::Status CheckPort(const proto::RunConfig& config, int local_rank, absl::string_view source);

// Returns whether each rank shows figures of its own.
bool EveryRankIsShown(const proto::RunConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_
