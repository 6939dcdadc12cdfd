// Finds inner products of fp64 matrices on the stream's device: many are started, and one copy brings their values to
// the host.
#ifndef ISTHMUS_MODEL_ALGEBRA_INNER_PRODUCTS_H_
#define ISTHMUS_MODEL_ALGEBRA_INNER_PRODUCTS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class InnerProducts {
 public:
  // `dots` is fp64 [1, the most rows that a matrix has], `sums` fp64 [1, the most products]. Their memory lies on the
  // stream's device, and this object uses both exclusively. The stream must outlive it.
  InnerProducts(const Tensor& dots, const Tensor& sums, Stream& stream) : dots_(dots), sums_(sums), stream_(stream) {}

  // Each call adds one value to those that Values returns: tr(Xᵀ Y), tr(X), ‖X‖². x, y are [rows, columns] fp64; for a
  // trace X is square.
  absl::Status Add(const ConstTensor& x, const ConstTensor& y);
  absl::Status AddTrace(const ConstTensor& x);
  absl::Status AddSquare(const ConstTensor& x);

  // Returns the values in the order in which they were added, and starts a new list. Waits for the stream.
  absl::StatusOr<std::vector<double>> Values();

 private:
  // Returns the next value's place, zeroed.
  absl::StatusOr<Tensor> Next();

  Tensor dots_, sums_;
  Stream& stream_;
  int64_t count_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ALGEBRA_INNER_PRODUCTS_H_
