// Computes the logit gradient of the sampled tokens of a training step again, one block of vocabulary rows at a time.
#ifndef ISTHMUS_MODEL_MEASURE_SAMPLED_GRADIENT_H_
#define ISTHMUS_MODEL_MEASURE_SAMPLED_GRADIENT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <iterator>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/measurement_memory.h"
#include "model/measure/token_figures.h"
#include "parallel/mesh.h"
#include "parallel/shard.h"
#include "runtime/stream.h"

namespace isthmus {

class SampledGradient {
 public:
  // `rows` are this rank's rows of U, which begin at row `first_row` of the vocabulary. `input` [n, width] is what
  // enters U for each sampled token. `sampled` is the same on every rank. All must outlive this object.
  SampledGradient(const MeasurementShape& shape, const MeasurementMemory& memory, const Mesh& mesh,
                  const LogitRows& rows, int64_t first_row, const Tensor& input, const SampledTokens& sampled,
                  Stream& stream)
      : shape_(shape),
        memory_(memory),
        mesh_(mesh),
        rows_(rows),
        first_row_(first_row),
        input_(input),
        sampled_(sampled),
        stream_(stream) {}

  // Computes G Gᵀ in memory.sample.gram, summed over the mesh. Losses are not divided by N. Collective over the mesh.
  absl::StatusOr<Matrix> Gram();

  // Returns sums over the self-test's tokens, which are every k-th sampled one. Losses are not divided by N. `energy`
  // is ‖G‖². `lost` is ‖G - G_∥‖², computed from the difference itself in fp64. There G_∥ = A_U M⁺ Uᵀ, M⁺ = P Pᵀ of
  // memory.head.wide_projector, and A_U = G U of the same G. It shows a P whose U P is not orthonormal.
  // `lost_passed_on` is at most the energy that the head passes on of G - G_∥. It shows a U P that lacks a part of the
  // head's column space. `retained` is Σ SampledTokens::kRetained of those tokens. Needs memory.head.gram; for a head W
  // = U E also memory.head.down and update.down_gram. Collective over the mesh.
  struct Energies {
    double energy = 0, lost = 0, lost_passed_on = 0, retained = 0;
  };
  absl::StatusOr<Energies> Test();

 private:
  // Copies every stride-th token's figures to where Form finds them.
  absl::Status Place(int64_t stride, int64_t count);
  // Does the same for what belongs to later targets. `targets` is [1 + K, count].
  absl::Status PlaceLater(const std::vector<int32_t>& targets, int64_t count);
  // Views the placed targets of the first `count` tokens, one row after the other.
  Tensor Targets(int64_t count) const { return {memory_.sample.targets.data, DType::kInt32, 1 + offsets(), count}; }
  int64_t offsets() const { return std::ssize(sampled_.future_weights); }
  // Computes G of the placed tokens for some of the rows.
  absl::Status Form(const Tensor& input, Range rows, const Tensor& gradient);
  // Calls `use` with G and U of one block of rows after the other, both in fp64.
  template <typename Use>
  absl::Status ForEachWideBlock(const Tensor& input, const Use& use);
  // Returns ‖(G - G_∥) W‖² / ‖WᵀW‖. `lost_signal` is (G - G_∥) U; it is the same on every rank.
  absl::StatusOr<double> PassedOn(const Tensor& lost_signal);

  const MeasurementShape& shape_;
  const MeasurementMemory& memory_;
  const Mesh& mesh_;
  const LogitRows rows_;
  const int64_t first_row_;
  const Tensor input_;
  const SampledTokens& sampled_;
  Stream& stream_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_SAMPLED_GRADIENT_H_
