#include "model/future_schedule.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace isthmus {

std::vector<double> FutureSchedule::WeightsAt(int64_t step) const {
  if (stages_.empty()) return {};
  const auto next = std::find_if(stages_.begin() + 1, stages_.end(),
                                 [step](const proto::HeadFutureConfig& stage) { return stage.from_step() > step; });
  const proto::HeadFutureConfig& last = *std::prev(next);
  std::vector<double> weights(last.weights().begin(), last.weights().end());
  if (next != stages_.end()) {
    const double share =
        static_cast<double>(step - last.from_step()) / static_cast<double>(next->from_step() - last.from_step());
    for (int k = 0; k < last.weights_size(); ++k) {
      weights[static_cast<size_t>(k)] += std::max(share, 0.0) * (next->weights(k) - last.weights(k));
    }
  }
  const bool none = std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 0; });
  return none ? std::vector<double>() : weights;
}

int64_t FutureSchedule::CountAt(int64_t step) const {
  const std::vector<double> weights = WeightsAt(step);
  return std::count_if(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
}

std::string CheckFuture(const proto::HeadConfig& config) {
  constexpr char kField[] = "model.head.future";
  int64_t before = 0;
  for (const proto::HeadFutureConfig& stage : config.future()) {
    if (before == 0 && stage.from_step() != 1) {
      return absl::StrCat(kField, ": from_step: ", stage.from_step(), "; accepts 1 for the first stage");
    }
    if (stage.from_step() <= before) {
      return absl::StrCat(kField, ": from_step: ", stage.from_step(), "; accepts steps after ", before);
    }
    before = stage.from_step();
    const int count = stage.weights_size(), first = config.future(0).weights_size();
    if (count < 1 || count > kMostFutureOffsets) {
      return absl::StrCat(kField, ": weights: ", count, " numbers from step ", stage.from_step(), " on; accepts 1 to ",
                          kMostFutureOffsets);
    }
    if (count != first) {
      return absl::StrCat(kField, ": weights: ", count, " numbers from step ", stage.from_step(), " on; accepts ",
                          first, ", as many as the first stage has");
    }
    for (const double weight : stage.weights()) {
      if (weight >= 0 && std::isfinite(weight)) continue;
      return absl::StrCat(kField, ": weights: ", weight, " from step ", stage.from_step(),
                          " on; accepts finite numbers from 0 on");
    }
  }
  return "";
}

std::vector<int32_t> WithFutureTargets(absl::Span<const int32_t> targets, int64_t sequence_length, int64_t offsets) {
  std::vector<int32_t> all(targets.begin(), targets.end());
  const auto count = static_cast<int64_t>(targets.size());
  all.reserve(static_cast<size_t>((1 + offsets) * count));
  for (int64_t k = 1; k <= offsets; ++k) {
    for (int64_t n = 0; n < count; ++n) {
      const int64_t last = (n / sequence_length + 1) * sequence_length - 1;
      all.push_back(targets[static_cast<size_t>(std::min(n + k, last))]);
    }
  }
  return all;
}

}  // namespace isthmus
