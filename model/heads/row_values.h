// These numbers of the vocabulary's rows follow from how often each token occurs in the training data.
#ifndef ISTHMUS_MODEL_HEADS_ROW_VALUES_H_
#define ISTHMUS_MODEL_HEADS_ROW_VALUES_H_

#include <cstdint>
#include <memory>
#include <vector>

namespace isthmus {

// There is one for each of V rows, as in ParameterSpec::init_values. It is null if the counts are not known.
using RowValues = std::shared_ptr<const std::vector<double>>;

// Returns log((count_v + 1) / Σ (count + 1)).
RowValues LogShares(const std::vector<uint64_t>& counts, int64_t vocabulary);

// Returns (count_v + 1)^exponent, times the one factor that makes the mean of their squares 1.
RowValues PowersOfCounts(const std::vector<uint64_t>& counts, int64_t vocabulary, double exponent);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_ROW_VALUES_H_
