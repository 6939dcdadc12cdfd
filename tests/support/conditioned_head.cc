#include "tests/support/conditioned_head.h"

#include <cmath>
#include <iterator>

#include "model/algebra/matrix.h"
#include "model/measure/head_sums.h"
#include "runtime/philox.h"
#include "tests/support/orthonormal_basis.h"

namespace isthmus::testing {
namespace {

double Random(uint64_t seed, int64_t index) {
  return Philox::Uniform(seed, RandomPurpose::kTest, 0, static_cast<uint64_t>(index)) - 0.5;
}

Eigen::MatrixXd Orthonormal(int64_t rows, int64_t columns, uint64_t seed) {
  Eigen::MatrixXd random(rows, columns);
  for (int64_t i = 0; i < random.size(); ++i) random(i / columns, i % columns) = Random(seed, i);
  return OrthonormalBasis(random);
}

}  // namespace

std::vector<double> DenselyConditionedHead(int64_t vocabulary, int64_t width, double condition) {
  Eigen::VectorXd values(width);
  for (int64_t i = 0; i < width; ++i) {
    values(i) = 5 * std::pow(condition, -static_cast<double>(i) / static_cast<double>(width - 1));
  }
  const Matrix head =
      Orthonormal(vocabulary, width, 1) * values.asDiagonal() * Orthonormal(width, width, 2).transpose();
  return {head.data(), head.data() + head.size()};
}

std::vector<double> TwoScaleHead(int64_t vocabulary, int64_t width, double condition) {
  std::vector<double> head;
  for (int64_t row = 0; row < vocabulary; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const int64_t i = row * width + column;
      head.push_back(row % 2 == 0 ? Random(3, row) * (column % 3 == 0 ? -1 : 1) : Random(4, i) / condition);
    }
  }
  return head;
}

std::vector<double> SampledSingularValues(int64_t count, double condition, bool fp32) {
  const std::vector<double> rows = DenselyConditionedHead(2 * count, count, condition);
  const Matrix transposed = Eigen::Map<const Matrix>(rows.data(), 2 * count, count) / 5;
  HeadSums sums;
  sums.tokens = count;
  sums.vocabulary = 2 * count;
  sums.arithmetic = fp32 ? DType::kFloat32 : DType::kFloat64;
  sums.sample_gram = transposed.transpose() * transposed;
  if (fp32) sums.sample_gram = sums.sample_gram.cast<float>().cast<double>().eval();
  sums.width = 1;
  sums.shards = {{.rows = sums.vocabulary, .logit_gradient_energy = 1}};
  sums.sampled_hidden = Matrix::Zero(count, 1);
  sums.hidden_unit_sum = sums.head_unit_sum = Eigen::VectorXd::Zero(1);
  return MakeMeasurement(sums).sampled_singular_values;
}

double ConditionOf(int64_t rank, const std::vector<double>& earlier_values, int64_t earlier_rank) {
  HeadSums sums;
  sums.tokens = sums.width = 1;
  sums.vocabulary = 8;
  sums.sample_gram = Matrix::Identity(1, 1);
  sums.shards = {{.rows = sums.vocabulary, .logit_gradient_energy = 1}};
  sums.sampled_hidden = Matrix::Zero(1, 1);
  sums.hidden_unit_sum = sums.head_unit_sum = Eigen::VectorXd::Zero(1);
  sums.rank = rank;
  sums.singular_values = Eigen::Map<const Eigen::VectorXd>(earlier_values.data(), std::ssize(earlier_values));
  sums.singular_values_rank = earlier_rank;
  return MakeMeasurement(sums).scalars.condition();
}

}  // namespace isthmus::testing
