// A tensor with its memory, for benchmarks.
#ifndef ISTHMUS_TOOLS_BENCH_FILLED_H_
#define ISTHMUS_TOOLS_BENCH_FILLED_H_

#include <cstdint>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace isthmus {

// Filled with numbers between -2 and 2.
class Filled {
 public:
  Filled(DType dtype, int64_t rows, int64_t columns)
      : words_(static_cast<size_t>((rows * columns * SizeOf(dtype) + 7) / 8)),
        tensor_(words_.data(), dtype, rows, columns) {
    for (int64_t i = 0; i < tensor_.size(); ++i) {
      const double value = static_cast<double>(i * 2654435761 % 4096) / 1024 - 2;
      switch (dtype) {
        case DType::kFloat64:
          tensor_.As<double>()[i] = value;
          break;
        case DType::kFloat32:
          tensor_.As<float>()[i] = static_cast<float>(value);
          break;
        case DType::kBFloat16:
          tensor_.As<BFloat16>()[i] = BFloat16(static_cast<float>(value));
          break;
        default:
          break;
      }
    }
  }
  operator Tensor() const { return tensor_; }  // NOLINT(google-explicit-constructor): operators take tensors
  const Tensor* operator->() const { return &tensor_; }

 private:
  std::vector<uint64_t> words_;
  Tensor tensor_;
};

}  // namespace isthmus

#endif  // ISTHMUS_TOOLS_BENCH_FILLED_H_
