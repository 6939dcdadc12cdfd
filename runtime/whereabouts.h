// The place of a rank's training, for reports of what it was doing. It holds the step, its phase, and how long the
// phases waited for other ranks.
#ifndef ISTHMUS_RUNTIME_WHEREABOUTS_H_
#define ISTHMUS_RUNTIME_WHEREABOUTS_H_

#include <absl/strings/string_view.h>

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

namespace isthmus {

// The training thread writes it; any thread may ask place().
class Whereabouts {
 public:
  struct Place {
    int64_t step = 0;             // 0 before the first
    const char* phase = "start";  // "forward", "evaluation", ...
  };

  void set_step(int64_t step) { step_.store(step, std::memory_order_relaxed); }
  // `phase` is a literal.
  void Enter(const char* phase) { phase_.store(phase, std::memory_order_relaxed); }
  Place place() const { return {step_.load(std::memory_order_relaxed), phase_.load(std::memory_order_relaxed)}; }

  // Adds time that the training thread has just waited for other ranks. It counts for the present phase.
  void AddWait(double seconds) { Waited(place().phase) += seconds; }
  // Returns the time that a phase has waited since the last call.
  double TakeWait(const char* phase) { return std::exchange(Waited(phase), 0); }

 private:
  double& Waited(absl::string_view phase) {
    for (auto& [name, seconds] : waited_) {
      if (name == phase) return seconds;
    }
    return waited_.emplace_back(phase, 0).second;
  }

  std::atomic<int64_t> step_ = 0;
  std::atomic<const char*> phase_ = Place().phase;
  std::vector<std::pair<absl::string_view, double>> waited_;  // a dozen phases
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_WHEREABOUTS_H_
