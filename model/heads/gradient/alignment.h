// A loss on W itself that turns the logits' change through the hidden states towards -G (model.head.alignment, λ):
//
//   L = -λ c,   c = ‖A‖² / (‖G‖ ‖A Wᵀ‖)   with A = G W
//
// c is the hidden-update cosine of DESIGN 4.3 over the tokens of a step. A is the head's own, whatever
// model.head.backward passes on in its place. G is a constant: the gradient goes to W alone, and not through the
// softmax to W, H or the blocks. The loss so judges how W passes a given G on. Otherwise the model could raise c by
// other errors, which are easier to pass on, and the step would need a second backward pass.
//
// With a = ‖A‖², S = AᵀA, M = WᵀW, t = ‖A Wᵀ‖² = tr(S M) and Q = Gᵀ A, ∂a/∂W = 2 Q and ∂t/∂W = 2 (Q M + W S), so that
//
//   ∂L/∂W = -λ c (2 Q / a - (Q M + W S) / t)
//
// For W = U E, B = G U takes the place of A: S = BᵀB and Q = GᵀB, of R columns, a = tr(S F) and t = tr(S F N F) with
// HeadMatrices. Then ∂L/∂U = Q X + U Y and ∂L/∂E = Z E, where
//
//   X = -λ c (2 F / a - F N F / t)   Y = λ c F S F / t   Z = -λ c (2 S / a - (S F N + N F S) / t)
//
// The gradient needs the whole step before it is known, so Q is summed up: memory of one more gradient of U.
//
// Cost: 2 V R + 2 R² operations per token, and the sum of B over the tensor ranks, one [n, R] all-reduce for each chunk
// of n tokens. Each step adds 2 V R² operations, and a sum of Q over the data ranks.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_ALIGNMENT_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_ALIGNMENT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "model/heads/gradient/head_matrices.h"
#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Alignment {
 public:
  // `setting` must outlive it.
  Alignment(double weight, const HeadShape& shape, const PartSetting& setting)
      : weight_(weight), shape_(shape), setting_(setting) {}

  // Whether the configuration asks for it; otherwise there are no other calls.
  bool wanted() const { return weight_ > 0; }

  void Place(int64_t chunk, TensorPlacer& placer);

  // Forgets what was summed up.
  absl::Status BeginStep(Stream& stream) const;
  // Returns memory [n, R] of the type of sums for this shard's part of B of a chunk.
  Tensor Signal(int64_t tokens) const { return signal_.RowSlice(0, tokens); }
  // Takes a chunk: grad_logits [n, V_i] compute type, and this shard's part of B [n, R] in the type of sums. It is in
  // the memory of Signal, or in other memory if that is not the compute type. Collective over the tensor group.
  absl::Status AddChunk(const Tensor& grad_logits, const Tensor& signal, const TensorRegion& region,
                        Stream& stream) const;
  // Adds Q X to U's gradient, and the rest to the terms. `energy` is ‖G‖² of this data rank's tokens. Returns L. A step
  // whose G, A or W is zero has no terms, and L is 0. Waits for the stream. Collective over the data group.
  absl::StatusOr<double> AddGradient(const HeadView& head, const HeadMatrices& matrices, double energy,
                                     const HeadTerms& terms, const TensorRegion& region, Stream& stream) const;
  double FlopsPerToken() const;

 private:
  // Adds Y and Z, without their factors of λ c.
  absl::Status AddTerms(const HeadMatrices& matrices, double of_squares, double of_product, const HeadTerms& terms,
                        Stream& stream) const;

  const double weight_;
  const HeadShape shape_;
  const PartSetting& setting_;
  Tensor signal_;                  // [chunk, R] type of sums
  Tensor narrow_signal_;           // compute type; signal_ itself where the types agree
  Tensor product_;                 // Q [V_i, R] type of sums
  Tensor gram_, workspace_;        // S, fp64 [R, R]; fp32, of products of blocks
  Tensor factor_, narrow_factor_;  // X, fp64 and in the type of sums
  Tensor left_, right_;            // fp64 [R, R], of products; for W = U E
  Tensor sums_;                    // a, t
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_ALIGNMENT_H_
