// Sums up M = WᵀW of a linear head over the tensor ranks, in fp64 on the stream's device.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_GRAM_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_GRAM_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class HeadGram {
 public:
  HeadGram(const HeadShape& shape, const PartSetting& setting)
      : width_(shape.width), has_down_(shape.has_down), hidden_width_(setting.width), type_(setting.type) {}

  void Place(TensorPlacer& placer);

  // Returns UᵀU [width, width], in memory that the caller may change. Collective over the tensor group.
  absl::StatusOr<Tensor> OfRows(const HeadView& head, const TensorRegion& region, Stream& stream) const;
  // Returns WᵀW [D, D] in the same way; for W = U E it is Eᵀ UᵀU E.
  absl::StatusOr<Tensor> OfHidden(const HeadView& head, const TensorRegion& region, Stream& stream) const;

 private:
  int64_t width_;
  bool has_down_;
  int64_t hidden_width_;
  DType type_;
  Tensor gram_;            // fp64 [width, width]
  Tensor workspace_;       // fp32 [width, width], of products of blocks
  Tensor down_, product_;  // fp64 [width, D]; E, and UᵀU E
  Tensor hidden_gram_;     // fp64 [D, D]
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_GRAM_H_
