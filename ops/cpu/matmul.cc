#include "ops/matmul.h"

#include <dnnl.hpp>

#include "ops/cpu/compiled_product.h"
#include "ops/cpu/fp32_product.h"
#include "ops/cpu/fp64_product.h"
#include "ops/cpu/widened_product.h"
#include "ops/elementwise.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus::cpu {
namespace {

// A product in fp64, with the rows of c cut over the threads.
void MultiplyFp64(const MatmulArgs& args, const MatmulSizes& sizes) {
  ParallelFor(sizes.m, 16, [&](int64_t begin, int64_t end, int) {
    MatmulArgs part = args;
    part.a = args.transpose_a ? args.a.ColumnSlice(begin, end - begin) : args.a.RowSlice(begin, end - begin);
    part.c = args.c.RowSlice(begin, end - begin);
    Fp64Product(part);
  });
}

// Says whether the processor multiplies bf16 itself. With AVX-512 but without that, oneDNN's products of bf16 take five
// times as long as those of fp32.
bool MultipliesBf16() {
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kNeeded) == kNeeded;
}

absl::Status MultiplyBf16(const MatmulArgs& args) {
  static const bool multiplies = MultipliesBf16();
  if (multiplies) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool done, CompiledProduct(args));
    if (done) return absl::OkStatus();
  }
  return WidenedProduct(args);
}

}  // namespace

absl::Status Matmul(const MatmulArgs& args) {
  const MatmulSizes sizes = SizesOf(args);
  if (sizes.m == 0 || sizes.n == 0) return absl::OkStatus();
  if (sizes.k == 0) return args.accumulate ? absl::OkStatus() : SetZero({.x = args.c});
  switch (args.a.dtype) {
    case DType::kFloat64:
      MultiplyFp64(args, sizes);
      return absl::OkStatus();
    case DType::kBFloat16:
      return MultiplyBf16(args);
    default:
      return Fp32Product(args);
  }
}

}  // namespace isthmus::cpu
