// Says how far a run has come, and with what figures.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_STATE_H_
#define ISTHMUS_LAUNCH_RUN_RUN_STATE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "model/measure/head_figures.h"
#include "runtime/monotonic.h"

namespace isthmus {

struct RunState {
  bool already_complete = false;  // what was continued from had nothing left to train
  int64_t steps = 0;              // the latest one that the weights have seen
  int64_t tokens = 0;
  int64_t batches = 0;       // the latest one that was trained on or passed over
  double start_seconds = 0;  // of training, on the monotonic clock, as if it had never paused
  double train_loss = 0;
  double validation_loss = 0;
  std::optional<HeadFigures> head;  // of the last telemetry step
  std::string checkpoint;           // newest folder, empty if none was saved
  double seconds = 0;               // of training, when it has ended

  // Returns the seconds since the start of training.
  double Elapsed() const { return MonotonicSeconds() - start_seconds; }
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_STATE_H_
