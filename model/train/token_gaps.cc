#include "model/train/token_gaps.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>

#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kMostNotedSteps = 32;
constexpr size_t kNumbersPerToken = 3;  // of a state
constexpr double kGapBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

// Returns the value below which `share` of the sorted values lie.
double Quantile(const std::vector<double>& sorted, double share) {
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<size_t>(std::lround(last * share))];
}

}  // namespace

TokenGaps::TokenGaps(int64_t vocabulary, const Mesh& mesh)
    : mesh_(mesh), occurrences_(static_cast<size_t>(vocabulary)) {}

absl::Status TokenGaps::CheckState(absl::Span<const int64_t> state, int64_t step) {
  for (size_t i = 0; i + kNumbersPerToken <= state.size(); i += kNumbersPerToken) {
    const int64_t first = state[i], last = state[i + 1], steps = state[i + 2];
    const bool never = first == 0 && last == 0 && steps == 0;
    const bool possible = first >= 1 && first <= last && last <= step && steps >= 1 && steps <= last - first + 1 &&
                          (steps > 1 || first == last);
    if (never || possible) continue;
    return absl::InvalidArgumentError(absl::StrCat("token ", i / kNumbersPerToken, " came in ", steps,
                                                   " steps from step ", first, " to ", last,
                                                   "; accepts steps from 1 to ", step));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> TokenGaps::State() {
  ISTHMUS_RETURN_IF_ERROR(Merge());
  std::vector<int64_t> state;
  if (mesh_.world().rank() != 0) return state;
  state.reserve(occurrences_.size() * kNumbersPerToken);
  for (const Occurrences& seen : occurrences_) state.insert(state.end(), {seen.first, seen.last, seen.steps});
  return state;
}

void TokenGaps::Restore(absl::Span<const int64_t> state, int64_t step) {
  occurrences_.assign(occurrences_.size(), {});
  noted_.clear();
  flags_.clear();
  last_step_ = step;
  if (state.empty()) return;
  for (size_t token = 0; token < occurrences_.size(); ++token) {
    const int64_t* numbers = &state[token * kNumbersPerToken];
    occurrences_[token] = {.first = numbers[0], .last = numbers[1], .steps = numbers[2]};
  }
}

absl::Status TokenGaps::AddStep(int64_t step, const ConstTensor& targets) {
  if (step <= last_step_) Restore({}, step);
  last_step_ = step;
  noted_.push_back(step);
  flags_.resize(noted_.size() * occurrences_.size(), 0);
  uint8_t* flags = flags_.data() + (noted_.size() - 1) * occurrences_.size();
  const auto* tokens = targets.As<const int32_t>();
  for (int64_t i = 0; i < targets.size(); ++i) flags[tokens[i]] = 1;
  return noted_.size() < kMostNotedSteps ? absl::OkStatus() : Merge();
}

absl::Status TokenGaps::Merge() {
  if (noted_.empty()) return absl::OkStatus();
  if (mesh_.data_ranks() > 1) {
    const Tensor flags(flags_.data(), DType::kUInt8, 1, static_cast<int64_t>(flags_.size()));
    ISTHMUS_RETURN_IF_ERROR(mesh_.data().host().AllReduce(flags, Reduction::kMax));
  }
  for (size_t i = 0; i < noted_.size(); ++i) {
    for (size_t token = 0; token < occurrences_.size(); ++token) {
      if (flags_[i * occurrences_.size() + token] == 0) continue;
      Occurrences& seen = occurrences_[token];
      if (seen.steps == 0) seen.first = noted_[i];
      seen.last = noted_[i];
      ++seen.steps;
    }
  }
  noted_.clear();
  flags_.clear();
  return absl::OkStatus();
}

absl::Status TokenGaps::Fill(std::optional<double> beta2, proto::TokenGapRecord& record) {
  ISTHMUS_RETURN_IF_ERROR(Merge());
  if (mesh_.world().rank() != 0) return absl::OkStatus();
  std::vector<double> gaps;
  for (const Occurrences& seen : occurrences_) {
    if (seen.steps < 2) continue;
    gaps.push_back(static_cast<double>(seen.last - seen.first) / static_cast<double>(seen.steps - 1));
  }
  record.set_tokens(std::ssize(gaps));
  if (gaps.empty()) return absl::OkStatus();
  std::sort(gaps.begin(), gaps.end());
  proto::Histogram& histogram = *record.mutable_steps();
  histogram.mutable_bounds()->Add(std::begin(kGapBounds), std::end(kGapBounds));
  histogram.mutable_counts()->Resize(static_cast<int>(std::size(kGapBounds)) + 1, 0);
  double sum = 0;
  for (const double gap : gaps) {
    const auto bucket = std::lower_bound(std::begin(kGapBounds), std::end(kGapBounds), gap) - std::begin(kGapBounds);
    ++*histogram.mutable_counts()->Mutable(static_cast<int>(bucket));
    sum += gap;
  }
  histogram.set_sum(sum);
  record.set_median_steps(Quantile(gaps, 0.5));
  record.set_ninth_decile_steps(Quantile(gaps, 0.9));
  if (!beta2.has_value()) return absl::OkStatus();
  record.set_median_kappa(record.median_steps() * (1 - *beta2));
  record.set_ninth_decile_kappa(record.ninth_decile_steps() * (1 - *beta2));
  return absl::OkStatus();
}

}  // namespace isthmus
