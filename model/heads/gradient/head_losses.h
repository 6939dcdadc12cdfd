// Losses on the head itself, beside the cross-entropy: orthogonality.h and alignment.h. They change the head's own
// gradient alone, right before the optimizer, after a part of it may have been taken (model.head.weight_gradient). What
// they add is no part of B: norm, clipping's decision and all figures are of B without it. The clipping factor applies
// to the sum, so that it does not change their share. Both are defined for any head whose U is a parameter. A tied
// table's gradient is that of both uses, and gets theirs in addition.
//
// Memory: N, Y and Z with their products, [R, R] in fp64; a copy of the head's gradient, to bring it back for figures.
// Cost of a step: 2 V R² operations for N, 2 V R² for U Y, and what the losses state.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_LOSSES_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_LOSSES_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "model/heads/gradient/alignment.h"
#include "model/heads/gradient/head_matrices.h"
#include "model/heads/gradient/orthogonality.h"
#include "model/heads/gradient/wide_rows.h"
#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class HeadLosses {
 public:
  // `setting` must outlive it.
  HeadLosses(const proto::HeadConfig& config, const HeadShape& shape, const PartSetting& setting);

  // Whether the configuration asks for any; otherwise there are no other calls.
  bool wanted() const { return orthogonality_.wanted() || alignment_.wanted(); }

  void Place(int64_t chunk, TensorPlacer& placer);
  absl::Status BeginStep(Stream& stream) const;
  // Returns where the head is to leave this shard's part of A (LmHead::Backward): `signal` if that is defined or
  // nothing needs it.
  Tensor Signal(const Tensor& signal, int64_t tokens) const;
  // Takes a chunk, with the result of Signal. Collective over the tensor group.
  absl::Status AddChunk(const Tensor& grad_logits, const Tensor& signal, const TensorRegion& region,
                        Stream& stream) const;
  // Adds the losses' gradients to the head's. `energy` is ‖G‖² of this data rank's tokens in the step. Collective over
  // both groups.
  absl::Status AddGradients(const HeadView& head, double energy, const TensorRegion& region, Stream& stream);
  // Returns their values in the last step.
  const HeadLossValues& values() const { return values_; }
  double FlopsPerToken() const { return alignment_.wanted() ? alignment_.FlopsPerToken() : 0; }

 private:
  // Adds U Y and Z E.
  absl::Status AddTerms(const HeadView& head, Stream& stream) const;

  const HeadShape shape_;
  const PartSetting& setting_;
  Orthogonality orthogonality_;
  Alignment alignment_;
  HeadMatrices matrices_;
  WideRows wide_rows_;
  HeadTerms terms_;
  Tensor narrow_rows_term_;  // Y in the type of sums
  Tensor down_gradient_;     // Z E, fp64 [R, D]
  Tensor narrow_down_;       // in the type of sums
  HeadLossValues values_;
};

// Works as HeadKind::check.
std::string CheckHeadLosses(const proto::HeadConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_LOSSES_H_
