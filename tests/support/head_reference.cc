#include "tests/support/head_reference.h"

#include <Eigen/Core>
#include <cmath>

#include "tests/support/orthonormal_basis.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

Eigen::MatrixXd ToMatrix(const Tensor& tensor) {
  Eigen::MatrixXd matrix(tensor.rows, tensor.columns);
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t column = 0; column < tensor.columns; ++column) {
      matrix(row, column) = ElementOf(tensor.RowSlice(row, 1), column);
    }
  }
  return matrix;
}

}  // namespace

HeadReference DecomposeByBruteForce(const Tensor& hidden, const Tensor& head, const std::vector<int32_t>& targets,
                                    const std::vector<Range>& shards) {
  const Eigen::MatrixXd w = ToMatrix(head);
  Eigen::MatrixXd gradient = ToMatrix(hidden) * w.transpose();
  const double tokens = static_cast<double>(gradient.rows());
  for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
    Eigen::ArrayXd row = (gradient.row(n).array() - gradient.row(n).maxCoeff()).exp();
    row /= row.sum();
    row(targets[static_cast<size_t>(n)]) -= 1;
    gradient.row(n) = row / tokens;
  }
  const Eigen::MatrixXd basis = OrthonormalBasis(w);
  const Eigen::MatrixXd kept = gradient * basis * basis.transpose();
  HeadReference reference;
  reference.logit_gradient_norm = gradient.norm();
  reference.retained_gradient_norm = kept.norm();
  reference.lost_energy_ratio = (gradient - kept).squaredNorm() / gradient.squaredNorm();
  for (const Range& shard : shards) {
    reference.shard_energy.push_back(gradient.middleCols(shard.begin, shard.size()).squaredNorm());
    reference.shard_retained.push_back(kept.middleCols(shard.begin, shard.size()).squaredNorm());
  }
  return reference;
}

}  // namespace isthmus::testing
