// Measures a few tokens of a training step by figures that need a Jacobian of each.
#ifndef ISTHMUS_MODEL_MEASURE_JACOBIAN_SAMPLE_H_
#define ISTHMUS_MODEL_MEASURE_JACOBIAN_SAMPLE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "model/heads/lm_head.h"
#include "model/measure/token_sample.h"
#include "model/measure/visible_shares.h"
#include "ops/loss_form.h"
#include "parallel/mesh.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class JacobianSample {
 public:
  // Takes every k-th token of a step, `most` of them at most; none if it is 0. `mesh` and `stream` must outlive it.
  JacobianSample(int64_t most, const LossForm& form, const Mesh& mesh, const Stream& stream);
  ~JacobianSample();

  bool takes_any() const { return most_ > 0; }
  // Begins a step. targets: int32 [1, local_tokens], this data rank's in host memory; they must stay until Sum.
  void Begin(int64_t local_tokens, const Tensor& targets);
  // Measures tokens of the next micro-batch's hidden [N, D], while it is the head's last (PlacedTokens). The matrices of a
  // linear head stay as they are until Sum. Waits for the stream. Does nothing where no step has begun. Collective over
  // the tensor group.
  absl::Status Add(const HeadView& head, const Tensor& hidden);
  // Ends the step. Returns the figures of the tokens of all data ranks, the same on every rank; none where there is
  // nothing to measure. Collective over the mesh.
  absl::StatusOr<std::optional<VisibleShares>> Sum();

 private:
  const int64_t most_;
  const LossForm form_;
  const Mesh& mesh_;
  const Stream& stream_;
  bool begun_ = false;
  TokenSample sample_;
  int64_t first_token_ = 0;  // of this data rank in the step
  int64_t passed_ = 0;       // tokens of its micro-batches so far
  Tensor step_targets_;
  std::unique_ptr<class TokenJacobians> linear_;  // of a head that has none of its own
  std::unique_ptr<class VisibleShareSum> sum_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_JACOBIAN_SAMPLE_H_
