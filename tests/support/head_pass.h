// One micro-batch of a tiny model on one rank, in fp64, with matrices that no run forms: N×V ones too.
#ifndef ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_
#define ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_

#include <functional>

#include "model/algebra/matrix.h"
#include "model/parameters.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {

// Copies an fp64 tensor.
Matrix MatrixOf(const Tensor& tensor);

// Runs BeginStep, the forward pass and the head's backward pass.
class HeadPass {
 public:
  // `change`, if given, changes the initial weights.
  explicit HeadPass(const TinyOptions& options, const std::function<void(ParameterStore&)>& change = nullptr);

  TrainingModel& model() { return replica_.model(); }
  // The gradient of U as it is now.
  Matrix WeightGradient() { return MatrixOf(model().parameters().Gradient(model().loss().parameter())); }

  Matrix hidden, weight, up;  // H, W, U
  Matrix gradient;            // G
  Matrix passed, signal;      // what was passed back; G U, as the decomposition sees it

 private:
  Replica replica_;
  TokenBatch batch_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HEAD_PASS_H_
