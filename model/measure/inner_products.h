// Inner products of fp64 matrices on the stream's device: many are started, and one copy brings their values to the
// host.
#ifndef ISTHMUS_MODEL_MEASURE_INNER_PRODUCTS_H_
#define ISTHMUS_MODEL_MEASURE_INNER_PRODUCTS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class InnerProducts {
 public:
  // `dots` fp64 [1, the most rows that a matrix has], `sums` fp64 [1, the most products]: memory of the stream's device
  // that is its own as long as it lives, as the stream is.
  InnerProducts(const Tensor& dots, const Tensor& sums, Stream& stream) : dots_(dots), sums_(sums), stream_(stream) {}

  // Each adds one value to what Values returns: tr(Xᵀ Y), tr(X), ‖X‖². x, y [rows, columns] fp64; X of a trace square.
  absl::Status Add(const ConstTensor& x, const ConstTensor& y);
  absl::Status AddTrace(const ConstTensor& x);
  absl::Status AddSquare(const ConstTensor& x);

  // In the order in which they were added; the next to be added is the first of new ones. Waits for the stream.
  absl::StatusOr<std::vector<double>> Values();

 private:
  // The next value's place, zeroed.
  absl::StatusOr<Tensor> Next();

  Tensor dots_, sums_;
  Stream& stream_;
  int64_t count_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_INNER_PRODUCTS_H_
