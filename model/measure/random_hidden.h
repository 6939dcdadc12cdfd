// Draws hidden states as Gaussian rows with the mean and covariance of given ones.
#ifndef ISTHMUS_MODEL_MEASURE_RANDOM_HIDDEN_H_
#define ISTHMUS_MODEL_MEASURE_RANDOM_HIDDEN_H_

#include <Eigen/Core>
#include <cstdint>

#include "model/algebra/matrix.h"

namespace isthmus {

class RandomHidden {
 public:
  // `sum` is Σ h_n [D] and `gram` HᵀH [D, D] over `rows` rows. The mean is m = sum / rows, the covariance gram / rows -
  // m mᵀ. Variances below 1e-12 of the mean square of a row are rounding and count as none. Factors one D×D matrix.
  RandomHidden(const Eigen::VectorXd& sum, const Matrix& gram, int64_t rows);

  const Eigen::VectorXd& mean() const { return mean_; }
  // Returns S [D, D], symmetric: S S is the covariance.
  const Matrix& root() const { return root_; }

  // Returns rows m + z_n S for tokens n from `first` on [count, D]. z_n has standard normal numbers, the j-th with the
  // index n D + j of Philox's stream `draw`: any mesh draws the same.
  Matrix Rows(uint32_t draw, int64_t first, int64_t count) const;

 private:
  Eigen::VectorXd mean_;
  Matrix root_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_RANDOM_HIDDEN_H_
