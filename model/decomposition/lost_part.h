// The part of sampled tokens' logit gradient that a head loses, formed as it is, where an orthonormal basis Q of the
// head's column space is known: G - F Qᵀ, F = G Q. It shows a wrong Q: one that is not orthonormal by its norm, and one
// of another space by what the head would pass on of it, which is to be nothing.
#ifndef ISTHMUS_MODEL_DECOMPOSITION_LOST_PART_H_
#define ISTHMUS_MODEL_DECOMPOSITION_LOST_PART_H_

#include <absl/status/status.h>

#include "model/decomposition/matrix.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

class LostPart {
 public:
  // F [n, k], and the columns of the vocabulary-sized factor U.
  LostPart(const Matrix& projected, int64_t width)
      : kept_(-projected), passed_on_(Matrix::Zero(projected.rows(), width)) {}

  // Of some rows of the vocabulary: their G [n, rows], which becomes what is lost of it, Q [rows, k] and U [rows,
  // width].
  absl::Status Add(const Tensor& gradient, const Tensor& basis, const Tensor& factor, Stream& stream);
  // Over the ranks that have other rows. Collective.
  absl::Status Sum(Communicator& group);

  double energy() const { return energy_; }
  // At most the energy that the head W = U E, whose largest singular value this is, passes on of what is lost. `down`:
  // E, empty for a plain head.
  double PassedOn(const Matrix& down, double largest) const;

 private:
  Matrix kept_;       // -F
  Matrix passed_on_;  // (G - F Qᵀ) U
  double energy_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_DECOMPOSITION_LOST_PART_H_
