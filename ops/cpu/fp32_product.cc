#include "ops/cpu/fp32_product.h"

#include <absl/strings/str_cat.h>
#include <dnnl.h>

#include <algorithm>

namespace isthmus::cpu {

absl::Status Fp32Product(const MatmulArgs& args) {
  const MatmulSizes sizes = SizesOf(args);
  const dnnl_status_t status = dnnl_sgemm(
      args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', sizes.m, sizes.n, sizes.k, 1.0F, args.a.As<float>(),
      std::max<int64_t>(args.a.row_stride, 1), args.b.As<float>(), std::max<int64_t>(args.b.row_stride, 1),
      args.accumulate ? 1.0F : 0.0F, args.c.As<float>(), std::max<int64_t>(args.c.row_stride, 1));
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("oneDNN sgemm failed with status ", static_cast<int>(status)));
}

}  // namespace isthmus::cpu
