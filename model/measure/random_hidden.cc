#include "model/measure/random_hidden.h"

#include "model/algebra/symmetric.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"

namespace isthmus {
namespace {

constexpr double kLeastVariance = 1e-12;

}  // namespace

RandomHidden::RandomHidden(const Eigen::VectorXd& sum, const Matrix& gram, int64_t rows)
    : mean_(sum / static_cast<double>(rows)) {
  Matrix covariance = gram / static_cast<double>(rows);
  const double mean_square = covariance.trace();
  covariance.noalias() -= mean_ * mean_.transpose();
  const FirstEigenvectors axes = FindFirstEigenvectors(covariance, covariance.rows());
  const Eigen::VectorXd deviations =
      (axes.values.array() > kLeastVariance * mean_square).select(axes.values.array().max(0.0).sqrt(), 0.0);
  root_ = axes.vectors * deviations.asDiagonal() * axes.vectors.transpose();
}

Matrix RandomHidden::Rows(uint32_t draw, int64_t first, int64_t count) const {
  const int64_t width = mean_.size();
  Matrix normal(count, width);
  ParallelFor(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t j = 0; j < width; ++j) {
        const auto index = static_cast<uint64_t>((first + n) * width + j);
        normal(n, j) = Philox::Normal(0, RandomPurpose::kControlHidden, draw, index);
      }
    }
  });
  Matrix rows = normal * root_;
  rows.rowwise() += mean_.transpose();
  return rows;
}

}  // namespace isthmus
