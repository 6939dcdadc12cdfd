// Keeps the head's own gradients as they were backpropagated, while the optimizer gets others. Measured steps bring
// them back. Memory: one more gradient of the head.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_KEPT_GRADIENT_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_KEPT_GRADIENT_H_

#include <absl/status/status.h>

#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class KeptGradient {
 public:
  // `setting` must outlive it.
  KeptGradient(const HeadShape& shape, const PartSetting& setting) : shape_(shape), setting_(setting) {}

  void Place(TensorPlacer& placer);
  absl::Status Keep(const HeadView& head, Stream& stream) const;
  absl::Status Restore(const HeadView& head, Stream& stream) const;

  // Returns what was kept of U's gradient [V_i, width].
  const Tensor& rows() const { return rows_; }

 private:
  const HeadShape shape_;
  const PartSetting& setting_;
  Tensor rows_, down_;  // of U and E
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_KEPT_GRADIENT_H_
