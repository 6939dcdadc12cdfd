// How much of the logit gradient the LM head passes on to the rest of the network (DESIGN 4.2; arXiv:2603.10145).
//
// G = ∂L/∂Z is N×V and never exists. ‖G‖² comes token by token from the loss (model/head_loss.h); of the part that
// lies in the column space of the head W,
//
//   G_∥ = G W M⁺ Wᵀ,   M = WᵀW,   A = G W:      ‖G_∥‖² = tr(M⁺ S),   S = AᵀA
//   ‖G_∥[:, rows of shard i]‖² = tr(M⁺ S M⁺ M_i),   M_i = W_iᵀ W_i
//
// so that only matrices of the head's width squared are summed over ranks: M_i over tensor ranks, S over data ranks.
#ifndef ISTHMUS_MODEL_HEAD_DECOMPOSITION_H_
#define ISTHMUS_MODEL_HEAD_DECOMPOSITION_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "model/head_loss.h"
#include "parallel/mesh.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace isthmus {

// Figures of one step for the whole cluster. Norms are of gradients of the step's mean loss.
struct HeadMeasurement {
  struct Shard {
    double logit_gradient_energy = 0;  // ‖G[:, S_i]‖²
    double retained_energy = 0;        // ‖G_∥[:, S_i]‖²
    // Of the shard; 0 where it is empty. Below 0 where the projection moved more energy into the shard than it took.
    double lost_energy_ratio() const;
    double lost_norm_ratio() const;  // its root; 0 where that is below 0
  };
  double logit_gradient_norm = 0;        // ‖G‖
  double retained_gradient_norm = 0;     // ‖G_∥‖
  double visible_cosine = 0;             // ‖G_∥‖ / ‖G‖
  double lost_norm_ratio = 0;            // ‖G_⊥‖ / ‖G‖
  double lost_energy_ratio = 0;          // its square
  double isotropic_lost_norm_ratio = 0;  // sqrt(1 - rank(W)/V): a head in random position
  double alignment_gain = 0;             // visible_cosine / sqrt(rank(W)/V)
  int64_t head_numerical_rank = 0;
  std::vector<Shard> shards;  // by tensor rank
};

class HeadDecomposition {
 public:
  // `mesh` and `stream` must outlive the decomposition. vocabulary: V of the whole head.
  static absl::StatusOr<HeadDecomposition> Create(int64_t vocabulary, int64_t head_width, const Mesh& mesh,
                                                  Stream& stream);

  // The memory that Create allocates.
  static ArenaLayout Layout(int64_t head_width);
  int64_t bytes() const { return arena_.bytes(); }

  // Forgets what was added.
  absl::Status Reset();
  // Adds AᵀA of one micro-batch: `head` after Train. Local; no collective.
  absl::Status AddMicroBatch(const HeadLoss& head);
  // `energy`: Σ (p - y)² by shard over this data rank's tokens (HeadLossSums::energy); `scale`: of the loss, 1/N over
  // all ranks. Collective over the mesh; the same result on every rank. Errors: Internal when the head is not finite.
  absl::StatusOr<HeadMeasurement> Measure(const HeadLoss& head, const std::vector<double>& energy, double scale);

 private:
  void Place(int64_t head_width, TensorPlacer& placer);

  int64_t vocabulary_ = 0;
  const Mesh* mesh_ = nullptr;
  Stream* stream_ = nullptr;
  bool signal_is_local_ = false;
  Arena arena_;
  Tensor signal_gram_;  // S, fp64 [D, D]
  Tensor shard_gram_;   // M_i
  Tensor head_gram_;    // M
  Tensor workspace_;    // fp32 [D, D]
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEAD_DECOMPOSITION_H_
