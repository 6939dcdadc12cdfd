// A tensor with its memory on the device of a stream, for benchmarks.
#ifndef ISTHMUS_TOOLS_BENCH_FILLED_H_
#define ISTHMUS_TOOLS_BENCH_FILLED_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/device.h"
#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Filled {
 public:
  // Makes numbers between -2 and 2, or `value` everywhere. A benchmark for which there is no memory ends the program.
  Filled(const Stream& stream, DType dtype, int64_t rows, int64_t columns, std::optional<double> value = {});
  // Makes int32 [1, n].
  Filled(const Stream& stream, std::vector<int32_t> values);
  ~Filled();
  Filled(const Filled&) = delete;
  Filled& operator=(const Filled&) = delete;

  operator Tensor() const { return tensor_; }       // NOLINT(google-explicit-constructor): operators take tensors
  operator ConstTensor() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  Device device_;
  Tensor tensor_;
};

}  // namespace isthmus

#endif  // ISTHMUS_TOOLS_BENCH_FILLED_H_
