// A matrix of counts of which most are zero, row by row.
#ifndef ISTHMUS_RUNTIME_DATA_SPARSE_COUNTS_H_
#define ISTHMUS_RUNTIME_DATA_SPARSE_COUNTS_H_

#include <absl/types/span.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace isthmus {

class SparseCounts {
 public:
  struct Entry {
    int32_t column;
    uint32_t count;
  };

  // Row r has entries [starts[r], starts[r + 1]), with ascending columns.
  SparseCounts(int64_t columns, std::vector<int64_t> starts, std::vector<Entry> entries)
      : columns_(columns), starts_(std::move(starts)), entries_(std::move(entries)) {}

  int64_t rows() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t columns() const { return columns_; }
  int64_t entries() const { return static_cast<int64_t>(entries_.size()); }
  absl::Span<const Entry> Row(int64_t row) const {
    const auto r = static_cast<size_t>(row);
    return absl::MakeConstSpan(entries_).subspan(static_cast<size_t>(starts_[r]),
                                                 static_cast<size_t>(starts_[r + 1] - starts_[r]));
  }

  // Returns the sum of each row, [rows()].
  std::vector<uint64_t> RowSums() const;
  // Returns the matrix with rows and columns exchanged.
  SparseCounts Transposed() const;
  // Returns the matrix of these rows alone, in their order.
  SparseCounts Rows(absl::Span<const int32_t> rows) const;

 private:
  int64_t columns_;
  std::vector<int64_t> starts_;
  std::vector<Entry> entries_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_SPARSE_COUNTS_H_
