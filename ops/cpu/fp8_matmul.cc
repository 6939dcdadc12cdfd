#include "ops/fp8_matmul.h"

#include <array>

#include "ops/matmul.h"
#include "runtime/parallel_for.h"

namespace isthmus::cpu {
namespace {

// Sets `to` [rows, columns] bf16 to inverse · from. Each of the 256 codes is converted once.
template <typename F>
void Dequantize(const ConstTensor& from, float inverse, const Tensor& to) {
  std::array<BFloat16, 256> values;
  for (size_t code = 0; code < values.size(); ++code) {
    F number;
    number.bits = static_cast<uint8_t>(code);
    values[code] = BFloat16(static_cast<float>(number) * inverse);
  }
  ParallelFor(from.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const F* codes = from.Row<F>(row);
      BFloat16* numbers = to.Row<BFloat16>(row);
      for (int64_t i = 0; i < from.columns; ++i) numbers[i] = values[codes[i].bits];
    }
  });
}

Tensor Dequantized(const ConstTensor& from, const ConstTensor& inverse, BFloat16* memory) {
  const Tensor to(memory, DType::kBFloat16, from.rows, from.columns);
  from.dtype == DType::kFloat8E4M3 ? Dequantize<Float8E4M3>(from, *inverse.As<float>(), to)
                                   : Dequantize<Float8E5M2>(from, *inverse.As<float>(), to);
  return to;
}

}  // namespace

int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k) { return (m + n) * k * SizeOf(DType::kBFloat16); }

absl::Status Fp8Matmul(const Fp8MatmulArgs& args) {
  auto* memory = args.workspace.As<BFloat16>();
  const Tensor a = Dequantized(args.a, args.a_inverse, memory);
  const Tensor b = Dequantized(args.b, args.b_inverse, memory + args.a.size());
  return Matmul({.a = a, .b = b, .c = args.c, .transpose_b = true, .accumulate = args.accumulate});
}

}  // namespace isthmus::cpu
