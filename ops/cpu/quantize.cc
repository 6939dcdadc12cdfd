#include "ops/quantize.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "runtime/parallel_for.h"

namespace isthmus::cpu {
namespace {

uint32_t MagnitudeBits(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffffu; }
uint32_t MagnitudeBits(BFloat16 x) { return static_cast<uint32_t>(x.bits & 0x7fffu) << 16; }

template <typename T>
uint32_t LargestMagnitude(const ConstTensor& x) {
  std::atomic<uint32_t> largest = 0;
  ParallelFor(x.rows, 16, [&](int64_t begin, int64_t end, int) {
    uint32_t mine = 0;
    for (int64_t row = begin; row < end; ++row) {
      const T* values = x.Row<T>(row);
      for (int64_t i = 0; i < x.columns; ++i) mine = std::max(mine, MagnitudeBits(values[i]));
    }
    uint32_t seen = largest.load();
    while (seen < mine && !largest.compare_exchange_weak(seen, mine)) {
    }
  });
  return largest.load();
}

template <typename T, typename F>
void QuantizeAs(const QuantizeArgs& args) {
  const Float8Scale scale = ScaleOf<F>(LargestMagnitude<T>(args.x));
  *args.inverse.As<float>() = scale.inverse;
  // Works by columns, a cache line of y at a time, so that whole rows of `transposed` are written.
  ParallelFor(args.x.columns, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = 0; row < args.x.rows; ++row) {
      const T* x = args.x.Row<T>(row);
      F* y = args.y.defined() ? args.y.Row<F>(row) : nullptr;
      for (int64_t column = begin; column < end; ++column) {
        const F value(static_cast<float>(x[column]) * scale.scale);
        if (y != nullptr) y[column] = value;
        if (args.transposed.defined()) args.transposed.Row<F>(column)[row] = value;
      }
    }
  });
}

template <typename T>
void QuantizeFrom(const QuantizeArgs& args) {
  const DType type = args.y.defined() ? args.y.dtype : args.transposed.dtype;
  type == DType::kFloat8E4M3 ? QuantizeAs<T, Float8E4M3>(args) : QuantizeAs<T, Float8E5M2>(args);
}

}  // namespace

absl::Status Quantize(const QuantizeArgs& args) {
  args.x.dtype == DType::kBFloat16 ? QuantizeFrom<BFloat16>(args) : QuantizeFrom<float>(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
