// Finds ranks that are persistently slow: it compares each rank's own work in each phase with that of the median rank.
//
// A phase lasts as long on the fastest rank as on the slowest if ranks wait for each other in it. A rank's own work is
// its time without those waits, which host memory's collectives measure. NCCL's waits are the GPU's own and stay in.
// With it only phases without collectives compare (on one tensor rank: data, forward, head, backward).
#ifndef ISTHMUS_LAUNCH_WATCH_STRAGGLERS_H_
#define ISTHMUS_LAUNCH_WATCH_STRAGGLERS_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <array>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "proto/telemetry.pb.h"
#include "runtime/step_phase.h"
#include "runtime/whereabouts.h"

namespace isthmus {

class Stragglers {
 public:
  // These are seconds of the phases of a step, and the sum of all but telemetry, in which ranks have different things
  // to do.
  using Work = std::array<float, kStepPhases + 1>;

  static constexpr int kWindow = 10;             // steps that are compared at once, at least
  static constexpr int kWindows = 3;             // one after another, in which a rank that is called slow was slow
  static constexpr double kSlow = 1.3;           // to the median
  static constexpr double kLeastSeconds = 1e-3;  // by which it is slower a step
  static constexpr size_t kListed = 8;           // slowest ranks of each phase, in records

  // Is called after each step. `seconds` is what it took on this rank; `whereabouts` knows how long it waited.
  void AddStep(const StepSeconds& seconds, Whereabouts& whereabouts);

  // Is called when a record is made; nothing happens before the window is full. Fills in the comparison, on rank 0, and
  // returns warnings. Collective over `world`, of more than one rank.
  absl::StatusOr<std::vector<std::string>> FillRecord(Communicator& world, proto::TelemetryRecord& record);

  // Does the comparison alone; `work` has seconds of a step, by rank.
  std::vector<std::string> Compare(absl::Span<const Work> work, proto::TelemetryRecord& record);

 private:
  Work sums_{};
  int steps_ = 0;
  std::vector<int> slow_windows_;  // by rank, in a row
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_STRAGGLERS_H_
