// A made-up language whose classes of tokens are known.
#ifndef ISTHMUS_TESTS_SUPPORT_CLASS_LANGUAGE_H_
#define ISTHMUS_TESTS_SUPPORT_CLASS_LANGUAGE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/sparse_counts.h"

namespace isthmus::testing {

// The next token's class depends on the class of the token before it alone, and the token on its class alone. Classes
// have equal sizes, or sizes that differ by one; tokens belong to them at random, and some are more frequent than others.
class ClassLanguage {
 public:
  ClassLanguage(int64_t vocabulary, int64_t classes, uint64_t seed);

  const std::vector<int32_t>& class_of() const { return class_of_; }
  // Returns text number `number`, a function of that and the seed.
  std::vector<int32_t> Text(int64_t tokens, uint64_t number) const;

 private:
  uint64_t seed_;
  std::vector<int32_t> class_of_;
  std::vector<std::vector<int32_t>> members_;
  std::vector<std::vector<double>> next_class_;  // cumulative, [classes, classes]
};

// Writes documents as a token shard.
void WriteShard(const std::string& path, int64_t vocabulary, const std::vector<std::vector<int32_t>>& documents);

// How often pairs (previous, next) occur in a text.
using PairCounts = std::map<std::pair<int32_t, int32_t>, uint32_t>;
PairCounts CountPairs(const std::vector<int32_t>& text);

// Returns the matrix [next, previous] of these counts.
SparseCounts MatrixOf(const PairCounts& pairs, int64_t vocabulary);

// Returns clusters with other numbers: that of the first token becomes 0, the next new one 1, and so on.
std::vector<int32_t> InOrderOfAppearance(const std::vector<int32_t>& cluster_of);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_CLASS_LANGUAGE_H_
