#include "ops/cpu/widened_product.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "ops/cpu/fp32_product.h"
#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus::cpu {
namespace {

// Rows and columns of a block. Widening a block costs a thousandth of the operations of its products.
constexpr int64_t kBlock = 1024;

// The block op(x)[row, row + rows) × [column, column + columns), as x stores it.
ConstTensor BlockOf(const ConstTensor& x, bool transposed, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  return transposed ? x.RowSlice(column, columns).ColumnSlice(row, rows)
                    : x.RowSlice(row, rows).ColumnSlice(column, columns);
}

// Scratch that holds one block as fp32.
class Widened {
 public:
  Tensor Like(const ConstTensor& block) {
    const auto size = static_cast<size_t>(block.size());
    if (memory_.size() < size) memory_.resize(size);
    return Tensor(memory_.data(), DType::kFloat32, block.rows, block.columns);
  }

 private:
  std::vector<float> memory_;
};

struct Scratch {
  std::mutex mutex;
  Widened a, b, c;
};

}  // namespace

absl::Status WidenedProduct(const MatmulArgs& args) {
  static Scratch scratch;
  const std::lock_guard<std::mutex> lock(scratch.mutex);
  const MatmulSizes sizes = SizesOf(args);
  for (int64_t m = 0; m < sizes.m; m += kBlock) {
    const int64_t rows = std::min(kBlock, sizes.m - m);
    for (int64_t n = 0; n < sizes.n; n += kBlock) {
      const int64_t columns = std::min(kBlock, sizes.n - n);
      const Tensor result = args.c.RowSlice(m, rows).ColumnSlice(n, columns);
      const Tensor sum = result.dtype == DType::kFloat32 ? result : scratch.c.Like(result);
      for (int64_t k = 0; k < sizes.k; k += kBlock) {
        const int64_t depth = std::min(kBlock, sizes.k - k);
        const ConstTensor a = BlockOf(args.a, args.transpose_a, m, rows, k, depth);
        const Tensor wide_a = scratch.a.Like(a);
        const ConstTensor b = BlockOf(args.b, args.transpose_b, k, depth, n, columns);
        const Tensor wide_b = scratch.b.Like(b);
        ISTHMUS_RETURN_IF_ERROR(Cast({.x = a, .y = wide_a}));
        ISTHMUS_RETURN_IF_ERROR(Cast({.x = b, .y = wide_b}));
        ISTHMUS_RETURN_IF_ERROR(Fp32Product({.a = wide_a,
                                             .b = wide_b,
                                             .c = sum,
                                             .transpose_a = args.transpose_a,
                                             .transpose_b = args.transpose_b,
                                             .accumulate = args.accumulate || k > 0}));
      }
      if (result.dtype != DType::kFloat32) ISTHMUS_RETURN_IF_ERROR(Cast({.x = sum, .y = result}));
    }
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
