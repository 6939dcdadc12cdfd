#include "ops/gram.h"

#include <algorithm>

#include "ops/cuda/kernels.h"
#include "runtime/status.h"

namespace isthmus::cuda {

absl::Status Gram(const GramArgs& args, const Context& context) {
  if (args.x.dtype == DType::kFloat64) {
    return Matmul({.a = args.x, .b = args.y, .c = args.c, .transpose_a = true, .accumulate = true}, context);
  }
  // Rows whose product is formed in fp32 before it is added in fp64.
  constexpr int64_t kRowBlock = 8192;
  for (int64_t begin = 0; begin < args.x.rows; begin += kRowBlock) {
    const int64_t count = std::min(kRowBlock, args.x.rows - begin);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = args.x.RowSlice(begin, count),
                                    .b = args.y.RowSlice(begin, count),
                                    .c = args.workspace,
                                    .transpose_a = true},
                                   context));
    ISTHMUS_RETURN_IF_ERROR(AddWidened(args.workspace, args.c, context));
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cuda
