// The small matrices of a head W = U E that losses on W itself need, in fp64 on the stream's device. R is the number of
// columns of U. N = UᵀU is summed over the tensor ranks, and F = E Eᵀ. For W = U, F is the identity, and no product
// with it is formed. M = WᵀW = EᵀN E then has tr(M) = tr(N F) and ‖M‖² = tr(N F N F).
//
// Cost of one call of Find: 2 V R² operations over the tensor ranks, and for W = U E 2 R² D + 6 R³ on each.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_MATRICES_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_MATRICES_H_

#include <absl/status/status.h>

#include "model/heads/gradient/head_gram.h"
#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// A loss on W adds U Y to the gradient of U and Z E to that of E, with these two matrices, fp64 [R, R].
struct HeadTerms {
  Tensor rows;  // Y
  Tensor down;  // Z; undefined for W = U
};

class HeadMatrices {
 public:
  // `setting` must outlive it.
  HeadMatrices(const HeadShape& shape, const PartSetting& setting);

  void Place(TensorPlacer& placer);
  // Finds the matrices of the head as it is now. Collective over the tensor group.
  absl::Status Find(const HeadView& head, const TensorRegion& region, Stream& stream);

  // Adds tr(x F) to `total`, fp64 [1, 1]. x is fp64 [R, R] and symmetric.
  absl::Status AddTrace(const Tensor& x, const Tensor& total, Stream& stream) const;
  // Adds factor · F to x, fp64 [R, R].
  absl::Status AddInner(double factor, const Tensor& x, Stream& stream) const;

  bool has_down() const { return shape_.has_down; }
  const Tensor& rows() const { return rows_; }                    // N
  const Tensor& inner() const { return inner_; }                  // F; undefined for W = U, as the next two
  const Tensor& rows_inner() const { return rows_inner_; }        // N F
  const Tensor& inner_in_rows() const { return inner_in_rows_; }  // N F N
  // Returns F N F, which is N for W = U.
  const Tensor& rows_in_inner() const { return shape_.has_down ? rows_in_inner_ : rows_; }
  const Tensor& down() const { return down_; }  // E [R, D]

 private:
  const HeadShape shape_;
  const PartSetting& setting_;
  HeadGram gram_;
  Tensor rows_, inner_, rows_inner_, inner_in_rows_, rows_in_inner_;
  Tensor down_;
  Tensor ones_;  // [R, 1], for W = U
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_HEAD_MATRICES_H_
