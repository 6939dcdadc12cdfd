#include "runtime/data/equal_clusters.h"

#include <cstddef>
#include <utility>

#include "runtime/philox.h"

namespace isthmus {

std::vector<int32_t> OrderedClusters(int64_t vocabulary, int64_t clusters) {
  std::vector<int32_t> numbers(static_cast<size_t>(vocabulary));
  for (int64_t token = 0; token < vocabulary; ++token) {
    numbers[static_cast<size_t>(token)] = static_cast<int32_t>(token * clusters / vocabulary);
  }
  return numbers;
}

std::vector<int32_t> ShuffledClusters(int64_t vocabulary, int64_t clusters, uint64_t seed) {
  std::vector<int32_t> numbers = OrderedClusters(vocabulary, clusters);
  // Fisher and Yates's shuffle: each place takes one of those that are left.
  for (int64_t left = vocabulary; left > 1; --left) {
    const double u = Philox::Uniform(seed, RandomPurpose::kTokenClusters, 0, static_cast<uint64_t>(left));
    const auto taken = static_cast<size_t>(u * static_cast<double>(left));
    std::swap(numbers[static_cast<size_t>(left - 1)], numbers[taken]);
  }
  return numbers;
}

}  // namespace isthmus
