// Finds how a step of gradient descent on the head and on the hidden states changes the logits (DESIGN 4.3). It uses
// matrices of the head's width squared alone.
//
// For a plain head W, with A = G W and B = Gᵀ H, the change of the logits is A Wᵀ + H Bᵀ (times -η). For a head
// W = U E, all of H, U and E move:
//
//   ΔZ = P Uᵀ + H' B_Uᵀ,   P = A Eᵀ + H B_Eᵀ,   A = A_U E,   A_U = G U,   H' = H Eᵀ,   B_U = Gᵀ H',   B_E = A_Uᵀ H
//
// with <ΔZ, G> = ‖A‖² + ‖B_U‖² + ‖B_E‖², and a rank of twice the width at most, since P Uᵀ has the columns of U.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_UPDATE_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_UPDATE_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct HeadUpdateSums {
  double signal_energy = 0;   // ‖A_U‖²
  double hidden = 0;          // ‖A‖²
  double through_hidden = 0;  // ‖A Wᵀ‖²
  double rows = 0, down = 0;  // ‖B_U‖², ‖B_E‖²; here and above without weights
  double along = 0;           // <ΔZ, G>
  double square = 0;          // ‖ΔZ‖²; here and in `along` the parts of ΔZ have their weights
};

// The tensors are fp64, in memory of the stream's device. For a plain head U is W, and `width` its width D.
struct HeadUpdateInput {
  ConstTensor head_gram;      // UᵀU [width, width]
  ConstTensor signal_gram;    // A_UᵀA_U [width, width]
  ConstTensor signal_hidden;  // A_Uᵀ H [width, D]
  ConstTensor hidden_gram;    // HᵀH [D, D]
  ConstTensor gradient_gram;  // B_UᵀB_U [width, width]
  ConstTensor down;           // E [width, D]; undefined for a plain head
  // Defaults apply unless the tensors were scaled (model/measure/tensor_scales.h). The weights are the factors of
  // A Wᵀ, H' B_Uᵀ (H Bᵀ for a plain head) and H B_Eᵀ Uᵀ. `step_down` is the E that H' and B_U were formed with, if it
  // is not `down`. `step` is B_E with the scales of U's columns on its rows, if it is not A_UᵀH.
  double hidden_weight = 1, head_weight = 1, down_weight = 1;
  ConstTensor step_down, step;
};

// The tensors are fp64; the squares and tall matrices exist for a head W = U E only.
struct HeadUpdateMemory {
  static constexpr int64_t kSums = 16;

  Tensor dots;                         // [1, max(width, D)]
  Tensor sums;                         // [1, kSums]
  Tensor down_gram;                    // E Eᵀ [width, width]
  Tensor first_square, second_square;  // [width, width]
  Tensor first_tall, second_tall;      // [width, D]

  static HeadUpdateMemory Place(int64_t width, int64_t hidden_width, bool has_down, TensorPlacer& placer);
};

// Finds E Eᵀ in `memory` on the way; the rest of it is scratch. Waits for the stream. For a head W = U E it costs
// eleven products of width² D, width D² or width³.
absl::StatusOr<HeadUpdateSums> SumUpdate(const HeadUpdateInput& input, const HeadUpdateMemory& memory, Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_UPDATE_H_
