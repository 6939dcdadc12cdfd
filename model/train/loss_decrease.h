// Says how far an update lowers the loss to first order: -⟨gradient, update⟩, with the gradient before clipping and the
// update as the optimizer made it, weight decay included (DESIGN 4.3).
#ifndef ISTHMUS_MODEL_TRAIN_LOSS_DECREASE_H_
#define ISTHMUS_MODEL_TRAIN_LOSS_DECREASE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <vector>

#include "model/train/optimizer.h"
#include "parallel/mesh.h"

namespace isthmus {

// Nats, of the whole mesh. A table that is also the head belongs to the embedding.
struct LossDecreases {
  double embedding = 0, blocks = 0, head = 0;
  std::vector<double> groups;  // of the configuration (optimizer.groups)
};

// It needs no copy of the weights: ⟨gradient, weight⟩ is computed in fp64 before and after the update. The difference
// loses the digits by which the update is smaller than the weights, some four of sixteen.
class LossDecrease {
 public:
  // Is called before the update, once gradients are reduced. Waits for the stream.
  static absl::StatusOr<LossDecrease> Begin(Optimizer& optimizer);
  // Is called after it. All ranks get the same. Waits for the stream. Collective over the mesh.
  absl::StatusOr<LossDecreases> End(const Mesh& mesh);

 private:
  explicit LossDecrease(Optimizer& optimizer) : optimizer_(&optimizer) {}

  Optimizer* optimizer_;
  std::vector<double> before_;  // by parameter
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_LOSS_DECREASE_H_
