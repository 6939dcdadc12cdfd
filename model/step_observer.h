// Training tells its observer of the steps that are to be measured. The calls of a step come in the order of their
// declaration. Training knows no measurement but by this interface.
#ifndef ISTHMUS_MODEL_STEP_OBSERVER_H_
#define ISTHMUS_MODEL_STEP_OBSERVER_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/backbone.h"
#include "model/heads/lm_head.h"
#include "model/heads/softmax_loss.h"
#include "runtime/tensor.h"

namespace isthmus {

// Calls happen on every rank for a step that is to be measured, and on none for another one. A step that fails or is
// not applied makes no further call.
class StepObserver {
 public:
  struct Beginning {
    int64_t step = 0;          // from 1; not above the one before: training has gone back
    int64_t local_tokens = 0;  // of every data rank
    // int32 [1 + K, local_tokens] in host memory, which lives until the step ends (HeadStep), and w_1 to w_K.
    Tensor targets;
    absl::Span<const double> future_weights;
    bool last = false;  // of the run
  };
  // A step fills these tensors while it runs, in memory of the stream's device.
  struct Observed {
    const HeadObservation* head = nullptr;
    Backbone::Observation backward;
  };

  virtual ~StepObserver() = default;

  // Returns the bytes that it holds on the stream's device.
  virtual int64_t bytes() const = 0;
  // Returns the tensors for the step that has begun.
  virtual Observed observed() const = 0;

  // Is called before the first micro-batch. The stream has finished the step before. Collective over the mesh.
  virtual absl::Status BeginStep(const HeadView& head, const Beginning& step) = 0;
  // Returns whether the micro-batches of this step may be captured (runtime/captured_work.h). Local.
  virtual bool capturable() const = 0;
  // Is called before each micro-batch; `index` counts from 0. Local.
  virtual absl::Status BeginMicroBatch(int64_t index) = 0;
  // Is called after the head's backward pass and before the backbone's. hidden is [N, D]; targets are int32 [1 + K, N]
  // on the stream's device. Only starts work on the stream if `capturable`. Collective over the tensor group.
  virtual absl::Status AddMicroBatch(const HeadView& head, const Tensor& hidden, const Tensor& targets) = 0;
  // Is called after the micro-batch, for which it does not wait. Local.
  virtual absl::Status EndMicroBatch() = 0;
  // Is called after the last one, if the step is to be applied. `energy` is LossSums::energy. The head's gradients are
  // summed over the data ranks and whole on each. Weights and gradients may change afterwards. Collective over the
  // mesh.
  virtual absl::Status EndStep(const HeadView& head, const std::vector<double>& energy) = 0;
  // Does the host's part of the work, while the device may be at the optimizer's. Local.
  virtual void Conclude() = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_STEP_OBSERVER_H_
