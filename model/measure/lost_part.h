// The part of the sampled tokens' logit gradient that a head loses, computed directly from an orthonormal basis Q of
// the head's column space: G - F Qᵀ, F = G Q. It shows a wrong Q. The norm shows a Q that is not orthonormal. A Q of
// another space shows in what the head would pass on of the lost part, which should be nothing.
#ifndef ISTHMUS_MODEL_MEASURE_LOST_PART_H_
#define ISTHMUS_MODEL_MEASURE_LOST_PART_H_

#include <absl/status/status.h>

#include "model/measure/matrix.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

class LostPart {
 public:
  // `projected`: F [n, k]. `width`: columns of the vocabulary-sized factor U.
  LostPart(const Matrix& projected, int64_t width)
      : kept_(-projected), passed_on_(Matrix::Zero(projected.rows(), width)) {}

  // Adds some rows of the vocabulary. `gradient`: their G [n, rows], which is overwritten with its lost part. `basis`:
  // Q [rows, k]. `factor`: U [rows, width].
  absl::Status Add(const Tensor& gradient, const ConstTensor& basis, const ConstTensor& factor, Stream& stream);
  // Sums over the ranks of `group`, which have other rows. Collective.
  absl::Status Sum(Communicator& group);

  double energy() const { return energy_; }
  // At most the energy of the lost part that the head W = U E passes on. `largest`: W's largest singular value. `down`:
  // E, empty for a plain head.
  double PassedOn(const Matrix& down, double largest) const;

 private:
  Matrix kept_;       // -F
  Matrix passed_on_;  // (G - F Qᵀ) U
  double energy_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LOST_PART_H_
