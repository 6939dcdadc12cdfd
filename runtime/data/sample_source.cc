#include "runtime/data/sample_source.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/data/sample_order.h"

namespace isthmus {

int64_t SampleSet::Sample(int64_t index) const {
  if (!permuted) return begin + index;
  // The seed is fixed, so that runs with different seeds are judged on the same validation samples.
  return static_cast<int64_t>(PermutedIndex(static_cast<uint64_t>(begin + index),
                                            static_cast<uint64_t>(source->samples()), 0,
                                            RandomPurpose::kValidationSplit, 0));
}

absl::StatusOr<TrainingSplit> SplitSamples(const std::shared_ptr<const SampleSource>& source,
                                           double validation_fraction) {
  const int64_t samples = source->samples();
  if (samples < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data.validation_fraction: the shards hold ", samples, " samples of ", source->sequence_length(),
        " tokens, too few to keep some for validation; lower data.sequence_length or name data.validation"));
  }
  const auto wanted = static_cast<int64_t>(std::llround(validation_fraction * static_cast<double>(samples)));
  const int64_t validation = std::clamp<int64_t>(wanted, 1, samples - 1);
  return TrainingSplit{
      .training = {.source = source, .begin = 0, .count = samples - validation, .permuted = true},
      .validation = {.source = source, .begin = samples - validation, .count = validation, .permuted = true}};
}

SampleSet AllSamples(std::shared_ptr<const SampleSource> source) {
  const int64_t count = source->samples();
  return {.source = std::move(source), .begin = 0, .count = count};
}

}  // namespace isthmus
