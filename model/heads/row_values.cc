#include "model/heads/row_values.h"

#include <cmath>
#include <utility>

namespace isthmus {
namespace {

// Returns log(count + 1) of each row; none if there is not a count for each.
std::vector<double> LogCounts(const std::vector<uint64_t>& counts, int64_t vocabulary) {
  std::vector<double> logs;
  if (static_cast<int64_t>(counts.size()) != vocabulary) return logs;
  logs.reserve(counts.size());
  for (const uint64_t count : counts) logs.push_back(std::log(static_cast<double>(count) + 1));
  return logs;
}

}  // namespace

RowValues LogShares(const std::vector<uint64_t>& counts, int64_t vocabulary) {
  std::vector<double> values = LogCounts(counts, vocabulary);
  if (values.empty()) return nullptr;
  double sum = 0;
  for (const uint64_t count : counts) sum += static_cast<double>(count) + 1;
  for (double& value : values) value -= std::log(sum);
  return std::make_shared<const std::vector<double>>(std::move(values));
}

RowValues PowersOfCounts(const std::vector<uint64_t>& counts, int64_t vocabulary, double exponent) {
  std::vector<double> values = LogCounts(counts, vocabulary);
  if (values.empty()) return nullptr;
  double squares = 0;
  for (double& value : values) {
    value = std::exp(exponent * value);
    squares += value * value;
  }
  const double root = std::sqrt(squares / static_cast<double>(vocabulary));
  for (double& value : values) value /= root;
  return std::make_shared<const std::vector<double>>(std::move(values));
}

}  // namespace isthmus
