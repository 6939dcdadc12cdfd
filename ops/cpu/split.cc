#include "ops/split.h"

#include "runtime/parallel_for.h"

namespace isthmus::cpu {

absl::Status Split(const SplitArgs& args) {
  ParallelFor(args.x.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = args.x.Row<float>(row);
      BFloat16 *high = args.high.Row<BFloat16>(row), *middle = args.middle.Row<BFloat16>(row),
               *low = args.low.Row<BFloat16>(row);
      for (int64_t column = 0; column < args.x.columns; ++column) {
        float left = x[column];
        high[column] = BFloat16(left);
        left -= static_cast<float>(high[column]);
        middle[column] = BFloat16(left);
        low[column] = BFloat16(left - static_cast<float>(middle[column]));
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
