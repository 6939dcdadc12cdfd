#include "runtime/data/sparse_counts.h"

namespace isthmus {

std::vector<uint64_t> SparseCounts::RowSums() const {
  std::vector<uint64_t> sums(static_cast<size_t>(rows()), 0);
  for (int64_t row = 0; row < rows(); ++row) {
    for (const Entry& entry : Row(row)) sums[static_cast<size_t>(row)] += entry.count;
  }
  return sums;
}

SparseCounts SparseCounts::Transposed() const {
  std::vector<int64_t> starts(static_cast<size_t>(columns_) + 1, 0);
  for (const Entry& entry : entries_) ++starts[static_cast<size_t>(entry.column) + 1];
  for (size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
  std::vector<int64_t> next(starts.begin(), starts.end() - 1);
  std::vector<Entry> entries(entries_.size());
  for (int64_t row = 0; row < rows(); ++row) {
    for (const Entry& entry : Row(row)) {
      int64_t& place = next[static_cast<size_t>(entry.column)];
      entries[static_cast<size_t>(place++)] = {.column = static_cast<int32_t>(row), .count = entry.count};
    }
  }
  return {rows(), std::move(starts), std::move(entries)};
}

SparseCounts SparseCounts::Rows(absl::Span<const int32_t> rows) const {
  std::vector<int64_t> starts = {0};
  std::vector<Entry> entries;
  starts.reserve(rows.size() + 1);
  for (const int32_t row : rows) {
    const auto found = Row(row);
    entries.insert(entries.end(), found.begin(), found.end());
    starts.push_back(static_cast<int64_t>(entries.size()));
  }
  return {columns_, std::move(starts), std::move(entries)};
}

}  // namespace isthmus
