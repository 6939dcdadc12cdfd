#include "model/heads/class_sample.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "runtime/philox.h"

namespace isthmus {

std::vector<int32_t> SampleClasses(absl::Span<const uint8_t> target, int64_t count, uint64_t seed, int64_t step) {
  std::vector<int32_t> classes;
  std::vector<std::pair<uint64_t, int32_t>> others;  // those with the lowest numbers are drawn
  for (int32_t id = 0; id < static_cast<int32_t>(target.size()); ++id) {
    if (target[static_cast<size_t>(id)] != 0) {
      classes.push_back(id);
      continue;
    }
    const std::array<uint32_t, 4> words =
        Philox::Words(seed, RandomPurpose::kSampledClasses, static_cast<uint32_t>(step), static_cast<uint64_t>(id));
    others.emplace_back((uint64_t{words[0]} << 32) | words[1], id);
  }
  const int64_t drawn =
      std::clamp<int64_t>(count - static_cast<int64_t>(classes.size()), 0, static_cast<int64_t>(others.size()));
  std::nth_element(others.begin(), others.begin() + drawn, others.end());
  for (int64_t i = 0; i < drawn; ++i) classes.push_back(others[static_cast<size_t>(i)].second);
  std::sort(classes.begin(), classes.end());
  return classes;
}

}  // namespace isthmus
