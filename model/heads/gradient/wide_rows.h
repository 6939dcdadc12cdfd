// Goes through the rows of U in the type of sums, a block at a time. Rows of another type are converted on the way.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_WIDE_ROWS_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_WIDE_ROWS_H_

#include <absl/status/status.h>

#include <algorithm>
#include <cstdint>

#include "model/part_setting.h"
#include "ops/elementwise.h"
#include "runtime/arena.h"
#include "runtime/status.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class WideRows {
 public:
  // `setting` must outlive it. `width` is the number of columns of U.
  WideRows(const PartSetting& setting, int64_t width) : setting_(setting), width_(width) {}

  void Place(TensorPlacer& placer) {
    if (setting_.sum_type() == setting_.type) return;
    const int64_t rows = setting_.Share(setting_.vocabulary).size();
    block_ = placer.Place("head.wide_rows", setting_.sum_type(), std::min(rows, kBlockRows), width_);
  }

  // Calls visit(rows, begin) for each block of `weight`, this shard's U [V_i, width].
  template <typename Visit>
  absl::Status ForBlocks(const Tensor& weight, Stream& stream, const Visit& visit) const {
    for (int64_t begin = 0; begin < weight.rows; begin += kBlockRows) {
      Tensor rows = weight.RowSlice(begin, std::min(kBlockRows, weight.rows - begin));
      if (block_.defined()) {
        const Tensor wide = block_.RowSlice(0, rows.rows);
        ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide}, stream));
        rows = wide;
      }
      ISTHMUS_RETURN_IF_ERROR(visit(rows, begin));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kBlockRows = 4096;

  const PartSetting& setting_;
  const int64_t width_;
  Tensor block_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_WIDE_ROWS_H_
