// One micro-batch of a tiny model on one rank, in fp64, with matrices that no run forms: N×V ones too.
#ifndef ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_
#define ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_

#include <absl/strings/string_view.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/softmax_loss.h"
#include "model/parameters.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {

// Copies an fp64 tensor.
Matrix MatrixOf(const Tensor& tensor);

// Runs BeginStep, the forward pass and the head's Train.
class TrainPass {
 public:
  // `change`, if given, changes the initial weights. The gradients are those of the tokens' mean loss.
  explicit TrainPass(const TinyOptions& options, int64_t step = 1,
                     const std::function<void(ParameterStore&)>& change = nullptr);

  TrainingModel& model() { return replica_.model(); }
  const Mesh& mesh() const { return replica_.mesh(); }
  // Return a parameter of this name, which must exist, and its gradient as it is now.
  Matrix Weight(absl::string_view name) { return MatrixOf(model().parameters().Weight(Find(name))); }
  Matrix Gradient(absl::string_view name) { return MatrixOf(model().parameters().Gradient(Find(name))); }
  // Returns the token `offset` places after the target of token n, or the last one of its sequence.
  int32_t LaterTarget(int64_t n, int64_t offset) const;
  // Returns the gradient of U as it is now.
  Matrix WeightGradient() { return MatrixOf(model().parameters().Gradient(model().loss().parameter())); }

  std::vector<int32_t> ids, targets;
  double scale = 0;  // of the tokens' losses
  LossSums sums;
  Matrix hidden;  // H
  Matrix passed;  // what was passed back: the gradient of H

 private:
  int Find(absl::string_view name);

  Replica replica_;
};

// The same with what belongs to a head with logits = H Wᵀ.
class HeadPass : public TrainPass {
 public:
  explicit HeadPass(const TinyOptions& options, const std::function<void(ParameterStore&)>& change = nullptr);

  Matrix weight, up;     // W, U
  Eigen::VectorXd bias;  // b; zeros if there is none
  Matrix logits;         // Z, before a soft cap
  Matrix gradient;       // G, of the loss that a step trains by
  Matrix signal;         // G U, as the decomposition sees it
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_
