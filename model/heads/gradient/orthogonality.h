// A loss on W itself that is 0 if all singular values of W are alike (model.head.orthogonality, λ). With M = WᵀW, the
// rank R that W may have and s = tr(M) / R, it is
//
//   L = λ ‖M / s - Π‖² / R = λ (R ‖M‖² / tr(M)² - 1)
//
// where Π is the projection on what W sees: the identity for W = U, the projection on the rows of E for W = U E. W is
// the product: U may be skewed if E makes up for it. The scale of W is free, because s follows it. The gradient,
// through s too, is
//
//   ∂L/∂W = 4 λ R / tr(M)² · W (M - q I),   q = ‖M‖² / tr(M)
//
// and for W = U E, ∂L/∂U = ∂L/∂W Eᵀ and ∂L/∂E = Uᵀ ∂L/∂W. With HeadMatrices these are U Y and Z E, where
// Y = 4 λ R / tr(M)² · (F N F - q F) and Z = 4 λ R / tr(M)² · (N F N - q N).
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_ORTHOGONALITY_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_ORTHOGONALITY_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "model/heads/gradient/head_matrices.h"
#include "model/heads/heads.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Orthogonality {
 public:
  Orthogonality(double weight, const HeadShape& shape) : weight_(weight), rank_(shape.width) {}

  // Whether the configuration asks for it; otherwise there are no other calls.
  bool wanted() const { return weight_ > 0; }

  void Place(TensorPlacer& placer) { sums_ = placer.Place("head.orthogonality_sums", DType::kFloat64, 1, 2); }
  // Adds to the terms, and returns L. A head of zeros has no terms, and L is 0. Waits for the stream.
  absl::StatusOr<double> AddTerms(const HeadMatrices& matrices, const HeadTerms& terms, Stream& stream) const;

 private:
  const double weight_;
  const int64_t rank_;
  Tensor sums_;  // tr(M), ‖M‖²
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_ORTHOGONALITY_H_
