#include "launch/watch/stragglers.h"

#include <absl/strings/str_format.h>

#include <algorithm>
#include <numeric>

#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kCompute = kStepPhases;  // in Work

// If no rank works this long a step in a phase, the phase says nothing of ranks.
constexpr float kLeastPhase = 1e-4F;

// The median of an even number is the lower one: the faster of two ranks.
float Median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

void Stragglers::AddStep(const StepSeconds& seconds, Whereabouts& whereabouts) {
  for (const StepPhase phase : kAllStepPhases) {
    const auto own = static_cast<float>(std::max(0.0, seconds[phase] - whereabouts.TakeWait(PhaseName(phase))));
    sums_[static_cast<size_t>(phase)] += own;
    if (phase != StepPhase::kTelemetry) sums_[kCompute] += own;
  }
  ++steps_;
}

absl::StatusOr<std::vector<std::string>> Stragglers::FillRecord(Communicator& world, proto::TelemetryRecord& record) {
  if (steps_ < kWindow) return std::vector<std::string>();
  for (float& sum : sums_) sum /= static_cast<float>(steps_);
  std::vector<Work> all(static_cast<size_t>(world.size()));
  const auto width = static_cast<int64_t>(sums_.size());
  ISTHMUS_RETURN_IF_ERROR(world.AllGather(Tensor(sums_.data(), DType::kFloat32, 1, width),
                                          Tensor(all.data(), DType::kFloat32, world.size(), width)));
  sums_ = {};
  steps_ = 0;
  if (world.rank() != 0) return std::vector<std::string>();
  return Compare(all, record);
}

std::vector<std::string> Stragglers::Compare(absl::Span<const Work> work, proto::TelemetryRecord& record) {
  slow_windows_.resize(work.size());
  std::vector<std::string> warnings;
  for (size_t phase = 0; phase < sums_.size(); ++phase) {
    std::vector<float> seconds;
    for (const Work& rank : work) seconds.push_back(rank[phase]);
    const float median = Median(seconds);
    std::vector<size_t> ranks(work.size());
    std::iota(ranks.begin(), ranks.end(), 0);
    std::stable_sort(ranks.begin(), ranks.end(), [&](size_t a, size_t b) { return seconds[a] > seconds[b]; });
    if (median <= 0 || seconds[ranks.front()] < kLeastPhase) continue;
    for (size_t i = 0; i < std::min(ranks.size(), kListed); ++i) {
      auto& straggler = *record.add_stragglers();
      straggler.set_rank(static_cast<int>(ranks[i]));
      straggler.set_phase(phase == kCompute ? "compute" : kStepPhaseNames[phase]);
      straggler.set_compute_seconds(seconds[ranks[i]]);
      straggler.set_slowdown_ratio(seconds[ranks[i]] / median);
    }
    if (phase != kCompute) continue;
    for (size_t rank = 0; rank < work.size(); ++rank) {
      const bool slow = seconds[rank] > kSlow * median && seconds[rank] - median > kLeastSeconds;
      const int before = slow_windows_[rank];
      slow_windows_[rank] = slow ? before + 1 : 0;
      if (slow && before + 1 == kWindows) {
        warnings.push_back(absl::StrFormat(
            "rank %d is slow: its own work takes %.4f s a step, %.2f times as long as the median rank's", rank,
            seconds[rank], seconds[rank] / median));
      }
      if (!slow && before >= kWindows) warnings.push_back(absl::StrFormat("rank %d is no longer slow", rank));
    }
  }
  return warnings;
}

}  // namespace isthmus
