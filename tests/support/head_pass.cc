#include "tests/support/head_pass.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "model/chunked_loss.h"

namespace isthmus::testing {

Matrix MatrixOf(const Tensor& tensor) {
  Matrix copy(tensor.rows, tensor.columns);
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t column = 0; column < tensor.columns; ++column) copy(row, column) = tensor.Row<double>(row)[column];
  }
  return copy;
}

TrainPass::TrainPass(const TinyOptions& options, int64_t step, const std::function<void(ParameterStore&)>& change)
    : replica_(options) {
  if (change) change(model().parameters());
  TokenBatch batch = MakeBatch(options, 1);
  ids = batch.ids;
  targets = batch.targets;
  scale = 1.0 / static_cast<double>(targets.size());
  ChunkedLoss& loss = model().loss();
  const Tensor all = loss.StepTargets(step, PartOf(batch.targets, 0, 1));
  EXPECT_TRUE(loss.BeginStep({.step = step, .targets = all}).ok());
  EXPECT_TRUE(model().backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
  EXPECT_TRUE(loss.ResetSums().ok());
  EXPECT_TRUE(loss.Train({.hidden = model().backbone().hidden(),
                          .targets = all,
                          .ids = PartOf(batch.ids, 0, 1),
                          .scale = scale,
                          .grad_hidden = model().backbone().grad_hidden()})
                  .ok());
  const auto found = loss.Sums();
  EXPECT_TRUE(found.ok()) << found.status();
  if (found.ok()) sums = *found;
  hidden = MatrixOf(model().backbone().hidden());
  passed = MatrixOf(model().backbone().grad_hidden());
}

int32_t TrainPass::LaterTarget(int64_t n, int64_t offset) const {
  const int64_t length = replica_.options().sequence_length, place = n % length;
  return targets[static_cast<size_t>(n - place + std::min(place + offset, length - 1))];
}

int TrainPass::Find(absl::string_view name) {
  const auto& specs = model().parameters().specs();
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return static_cast<int>(i);
  }
  ADD_FAILURE() << "no parameter " << name;
  return 0;
}

HeadPass::HeadPass(const TinyOptions& options, const std::function<void(ParameterStore&)>& change)
    : TrainPass(options, 1, change) {
  const auto view = model().loss().View();
  EXPECT_TRUE(view.ok());
  up = MatrixOf(view->weight);
  weight = view->down == nullptr ? up : Matrix(up * MatrixOf(view->down->weight));
  bias = view->bias.defined() ? Eigen::VectorXd(MatrixOf(view->bias)) : Eigen::VectorXd::Zero(weight.rows());
  logits = (hidden * weight.transpose()).rowwise() + bias.transpose();
  const proto::HeadConfig head = TinyConfig(options).model().head();
  const double cap = head.soft_cap();
  const absl::Span<const double> weights = model().loss().future_weights();
  const double whole = std::accumulate(weights.begin(), weights.end(), 1.0);
  gradient = cap == 0 ? logits : Matrix(cap * (logits.array() / cap).tanh());
  for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
    const double largest = gradient.row(n).maxCoeff();
    const Eigen::VectorXd shifted = (gradient.row(n).array() - largest).exp();
    const double factor = whole + 2 * head.z_loss() * (largest + std::log(shifted.sum()));
    gradient.row(n) = scale * factor * shifted.transpose() / shifted.sum();
    gradient(n, targets[static_cast<size_t>(n)]) -= scale;
    for (size_t k = 1; k <= weights.size(); ++k) {
      gradient(n, LaterTarget(n, static_cast<int64_t>(k))) -= scale * weights[k - 1];
    }
  }
  if (cap != 0) gradient = gradient.array() * (logits.array() / cap).cosh().square().inverse();
  signal = MatrixOf(view->signal);
}

}  // namespace isthmus::testing
