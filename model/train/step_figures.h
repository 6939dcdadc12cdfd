// A step is judged by these figures before the optimizer changes a weight: its loss and the norm of its gradient, of
// the whole mesh.
#ifndef ISTHMUS_MODEL_TRAIN_STEP_FIGURES_H_
#define ISTHMUS_MODEL_TRAIN_STEP_FIGURES_H_

#include <absl/status/statusor.h>

#include <cmath>

#include "model/train/optimizer.h"
#include "parallel/mesh.h"

namespace isthmus {

struct StepFigures {
  double loss = 0;           // mean over all tokens of the step, nats
  double gradient_norm = 0;  // of the whole model, before clipping: every element once
  bool too_large = false;    // the gradient is, for the optimizer's numbers (Optimizer::CanTake)

  bool finite() const { return std::isfinite(loss) && std::isfinite(gradient_norm); }
  // Returns true for a loss without a gradient: an overflow or underflow on the way has lost it. If the loss is exactly
  // 0, as with a vocabulary of one token, there is nothing to learn, and a gradient of 0 is right.
  bool vanished() const { return gradient_norm == 0 && loss != 0; }
  // If false, no optimizer may see the gradient.
  bool sound() const { return finite() && !vanished() && !too_large; }
};

// One rank has these after its gradients are reduced.
struct LocalStepFigures {
  double loss_sum = 0;  // over its own tokens, the same on all its tensor ranks
  Optimizer::GradientSquares squares;
  bool squares_of_part = false;  // of what this data rank owns (a sharded optimizer), else all data ranks have the same
};

// All ranks return identical bits. `scale` is the factor of the sum of losses: 1 / tokens of the step. Collective: one
// small all-reduce over the data ranks and one over the tensor ranks. Values that should be equal on several ranks are
// taken from the first of them. If any rank's value is not finite, the result is not finite.
absl::StatusOr<StepFigures> AgreeOnFigures(const LocalStepFigures& local, double scale, const Mesh& mesh);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_STEP_FIGURES_H_
