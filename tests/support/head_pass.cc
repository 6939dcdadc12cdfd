#include "tests/support/head_pass.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

namespace isthmus::testing {

Matrix MatrixOf(const Tensor& tensor) {
  Matrix copy(tensor.rows, tensor.columns);
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t column = 0; column < tensor.columns; ++column) copy(row, column) = tensor.Row<double>(row)[column];
  }
  return copy;
}

HeadPass::HeadPass(const TinyOptions& options, const std::function<void(ParameterStore&)>& change) : replica_(options) {
  if (change) change(model().parameters());
  batch_ = MakeBatch(options, 1);
  const Tensor ids = PartOf(batch_.ids, 0, 1), targets = PartOf(batch_.targets, 0, 1);
  EXPECT_TRUE(model().loss().BeginStep({.step = 1, .targets = targets}).ok());
  EXPECT_TRUE(model().backbone().Forward(ids).ok());
  const double scale = 1.0 / static_cast<double>(ids.columns);
  EXPECT_TRUE(model()
                  .loss()
                  .Train({.hidden = model().backbone().hidden(),
                          .targets = targets,
                          .scale = scale,
                          .grad_hidden = model().backbone().grad_hidden()})
                  .ok());
  hidden = MatrixOf(model().backbone().hidden());
  passed = MatrixOf(model().backbone().grad_hidden());
  const auto view = model().loss().View();
  EXPECT_TRUE(view.ok());
  up = MatrixOf(view->weight);
  weight = view->down == nullptr ? up : Matrix(up * MatrixOf(view->down->weight));
  gradient = hidden * weight.transpose();
  for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
    const Eigen::VectorXd shifted = (gradient.row(n).array() - gradient.row(n).maxCoeff()).exp();
    gradient.row(n) = scale * shifted.transpose() / shifted.sum();
    gradient(n, batch_.targets[static_cast<size_t>(n)]) -= scale;
  }
  signal = MatrixOf(view->signal);
}

}  // namespace isthmus::testing
