// The optimizer gets a part of the head's own gradient B = Gᵀ H (model.head.weight_gradient): G_∥ᵀ H = U M⁺ (UᵀB) with
// M = UᵀU, the part that belongs to what the head passes on, or the rest, G_⊥ᵀ H. Nothing of size N×V is needed.
//
// U is the matrix with the vocabulary rows. For W = U E the column space of U is that of W if E has full rank. The
// gradient of E is Uᵀ Gᵀ H: all of it belongs to the first part, and nothing to the second.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_WEIGHT_GRADIENT_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_WEIGHT_GRADIENT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "model/heads/gradient/head_gram.h"
#include "model/heads/gradient/kept_gradient.h"
#include "model/heads/gradient/norm_match.h"
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

class WeightGradient {
 public:
  WeightGradient(const proto::HeadWeightGradientConfig& config, const HeadShape& shape, const PartSetting& setting);

  // Whether the optimizer gets a part only; otherwise there are no other calls.
  bool changes() const { return part_ != Part::kFull; }

  void Place(TensorPlacer& placer);
  // Works as ChangeGradient in LmHead. `kept` has the gradients that it finds.
  absl::Status Change(const HeadView& head, const KeptGradient& kept, const TensorRegion& region, Stream& stream);

 private:
  enum class Part { kFull, kVisible, kLost };

  // Returns M⁺ UᵀB in fp64. Collective over the tensor group.
  absl::StatusOr<Tensor> Solve(const HeadView& head, const TensorRegion& region, Stream& stream);

  const PartSetting& setting_;
  const HeadShape shape_;
  const Part part_;
  const bool match_norm_;
  HeadGram gram_;
  NormMatch norm_;
  WideRows wide_rows_;
  Tensor product_workspace_;               // of products of blocks
  Tensor product_;                         // fp64 [width, width]: UᵀB
  Tensor solution_, inverse_, workspace_;  // fp64
  Tensor narrow_solution_;                 // in the type of sums
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_WEIGHT_GRADIENT_H_
