// Computes directly which part of the sampled tokens' logit gradient a head loses: G - F Qᵀ, F = G Q. Q is an
// orthonormal basis of the head's column space. The result shows a wrong Q. The norm shows a Q that is not orthonormal.
// A Q of another space shows in what the head would pass on of the lost part, which should be nothing.
#ifndef ISTHMUS_MODEL_MEASURE_LOST_PART_H_
#define ISTHMUS_MODEL_MEASURE_LOST_PART_H_

#include <absl/status/status.h>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

class LostPart {
 public:
  // `projected` is F [n, k]; `width` is the number of columns of the vocabulary-sized factor U.
  LostPart(const Matrix& projected, int64_t width)
      : kept_(-projected), passed_on_(Matrix::Zero(projected.rows(), width)) {}

  // Adds some rows of the vocabulary. `gradient` is their G [n, rows]; it is overwritten with its lost part. `basis` is
  // Q [rows, k], and `factor` is U [rows, width].
  absl::Status Add(const Tensor& gradient, const ConstTensor& basis, const ConstTensor& factor, Stream& stream);
  // Sums over the ranks of `group`, which have other rows. Collective.
  absl::Status Sum(Communicator& group);

  double energy() const { return energy_; }
  // Returns at most the energy of the lost part that the head W = U E passes on. `largest` is W's largest singular
  // value. `down` is E, empty for a plain head.
  double PassedOn(const Matrix& down, double largest) const;

 private:
  Matrix kept_;       // -F
  Matrix passed_on_;  // (G - F Qᵀ) U
  double energy_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LOST_PART_H_
