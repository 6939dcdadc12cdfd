// Turns sums over tokens and over the vocabulary into the figures of the head decomposition, on the host in fp64. The
// largest inputs are n×n and n×D matrices for n sampled tokens. Every rank gets the same figures.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_SUMS_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_SUMS_H_

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/head_figures.h"
#include "model/measure/head_update.h"
#include "model/measure/tensor_scales.h"
#include "model/measure/token_figures.h"

namespace isthmus {

// Squares of fp64 below it may have lost digits, because parts of them are below the smallest numbers.
inline constexpr double kLeastEnergy = 1e-270;

// The sums are those of the whole cluster. U is the vocabulary-sized factor, [V, width]: W itself, or that of W = U E.
// H [N, D] are hidden states, and H' is what enters U: H, or H Eᵀ. A_U = G U.
struct HeadSums {
  int64_t tokens = 0, vocabulary = 0, width = 0;
  TokenSums token;
  std::vector<HeadPart> shards, buckets;

  HeadUpdateSums update;
  TensorScales::UpdateWeights update_weights;  // that `update` was summed up with

  // These tell how far rounding went: the arithmetic of A_U and F = A_U P, and ‖P‖² of the projector P.
  DType arithmetic = DType::kFloat64;
  double projector_energy = 0;  // 0: F did not come from A_U

  int64_t rank = 0;          // of W, or kUnknownRank
  std::string not_factored;  // why there is no projector; empty if there is one
  // Singular values of W, or of the W of some steps ago, and its rank then; empty where they are not known yet.
  Eigen::VectorXd singular_values;
  int64_t singular_values_rank = 0;
  int singular_values_exponent = 0;  // the values are to be multiplied by this power of two
  int64_t singular_values_step = 0;  // of training, whose head they are of; 0 outside of it

  Matrix sample_gram;  // G_s G_sᵀ [n, n]
  // The eigenvalues if they are not computed here: those known from an earlier step, or an empty list.
  std::optional<std::vector<double>> sample_eigenvalues;
  int64_t sample_step = 0;  // of training, whose Gram matrix they are of; 0 outside of it
  Matrix sampled_hidden;    // [n, D]
  // These are sums over the sampled tokens, or some of them: ‖G‖², ‖G_∥‖², and ‖G - G_∥‖² computed from the difference
  // itself. `lost_passed_on` is how much of `lost` W would still pass on.
  struct SelfTest {
    double energy = 0, retained = 0, lost = 0, lost_passed_on = 0;
  };
  SelfTest self_test;
  // Rows of zeros have no direction: they are left out, and counted.
  Eigen::VectorXd hidden_unit_sum;  // Σ h_n / ‖h_n‖ [D]
  Eigen::VectorXd head_unit_sum;    // Σ u_v / ‖u_v‖ [width]
  int64_t zero_hidden_rows = 0, zero_head_rows = 0;
};

// Figures of G_∥ are absent where rounding hides it (HeadFigures::not_measured).
HeadFigures MakeMeasurement(const HeadSums& sums);

// Returns the mean cosine over pairs of different rows from the squared norm of the sum of n = `count` unit rows
// (arXiv:2401.12143): (‖Σ‖² - n) / (n² - n). It is NaN for fewer than two rows.
double MeanCosine(double squared_norm, int64_t count);
// Returns the same from the sum.
double AnisotropyOf(const Eigen::VectorXd& unit_sum, int64_t count);
// Returns how many rows are zero.
template <typename Rows>
int64_t ZeroRows(const Rows& rows) {
  return (rows.array() == 0).rowwise().all().count();
}
// Returns Σ x_n / ‖x_n‖ over the other rows. Rows whose squares overflow or vanish are first scaled by a power of two.
template <typename Rows>
Eigen::VectorXd UnitRowSum(const Rows& rows) {
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(rows.cols());
  for (Eigen::Index n = 0; n < rows.rows(); ++n) {
    const double norm = rows.row(n).norm();
    if (norm > 1e-140 && norm < 1e140) {
      sum += rows.row(n).transpose() / norm;
      continue;
    }
    const Matrix row = rows.row(n);
    const double largest = row.cwiseAbs().maxCoeff();
    if (!(largest > 0)) continue;
    const Matrix scaled = TimesPowerOfTwo(row, -std::ilogb(largest));
    sum += scaled.row(0).transpose() / scaled.norm();
  }
  return sum;
}

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_SUMS_H_
