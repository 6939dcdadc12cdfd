// A request to train has the configuration, and the surroundings of the run.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_REQUEST_H_
#define ISTHMUS_LAUNCH_RUN_RUN_REQUEST_H_

#include <ostream>
#include <string>

#include "launch/watch/rank_watch.h"
#include "parallel/communicator.h"
#include "proto/config.pb.h"
#include "runtime/stop_signals.h"

namespace isthmus {

// Everything that is referred to must outlive the run.
struct RunRequest {
  proto::RunConfig config;     // as loaded, the same on every rank
  std::string source;          // the file it came from, for messages
  std::string resume;          // what to continue from (launch/run/resume.h)
  const StopSignals& signals;  // end the run early
  RankWatch& watch;            // is started once the folder has a log, and told where training is
  Communicator& world;         // all ranks
  int local_rank = 0;          // this rank's place on its node
  std::ostream& display;       // receives rank 0's progress
  bool display_is_terminal = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_REQUEST_H_
