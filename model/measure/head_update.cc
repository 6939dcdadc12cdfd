#include "model/measure/head_update.h"

#include <algorithm>
#include <vector>

#include "model/algebra/inner_products.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<HeadUpdateSums> SumPlain(const HeadUpdateInput& in, InnerProducts products) {
  ISTHMUS_RETURN_IF_ERROR(products.AddTrace(in.signal_gram));
  ISTHMUS_RETURN_IF_ERROR(products.AddTrace(in.gradient_gram));
  ISTHMUS_RETURN_IF_ERROR(products.Add(in.signal_gram, in.head_gram));
  ISTHMUS_RETURN_IF_ERROR(products.Add(in.hidden_gram, in.gradient_gram));
  ISTHMUS_RETURN_IF_ERROR(products.AddSquare(in.signal_hidden));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> values, products.Values());
  const double a = in.hidden_weight, b = in.head_weight;
  HeadUpdateSums sums;
  sums.signal_energy = sums.hidden = values[0];
  sums.rows = values[1];
  sums.along = a * values[0] + b * values[1];
  sums.through_hidden = values[2];
  // A Wᵀ and H Bᵀ have the inner product <AᵀH, WᵀB>, and BᵀW = HᵀG W = HᵀA.
  sums.square = a * a * values[2] + b * b * values[3] + 2 * (a * b * values[4]);
  return sums;
}

// These are the traces of PᵀP UᵀU, H'ᵀH' B_UᵀB_U and Pᵀ H' A_Uᵀ H'. In them D = E Eᵀ, M = UᵀU, S = A_UᵀA_U, B_E =
// A_UᵀH, K = HᵀH:
//
//   PᵀP  = D S D + D B_E B_Eᵀ + B_E B_Eᵀ D + B_E K B_Eᵀ
//   PᵀH' = D B_E Eᵀ + B_E K Eᵀ
//
// cut so that each is the inner product of two matrices that are one or two products away.
absl::StatusOr<HeadUpdateSums> SumWithDown(const HeadUpdateInput& in, const HeadUpdateMemory& memory,
                                           InnerProducts products, Stream& stream) {
  const Tensor& d = memory.down_gram;
  const ConstTensor &m = in.head_gram, &e = in.down;
  const ConstTensor& step = in.step.defined() ? in.step : in.signal_hidden;
  const ConstTensor& own = in.step_down.defined() ? in.step_down : in.down;  // the E of H' and B_U
  const Tensor &square = memory.first_square, &other = memory.second_square;
  const Tensor &tall = memory.first_tall, &other_tall = memory.second_tall;
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = e, .b = e, .c = d, .transpose_b = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.AddTrace(in.signal_gram));
  ISTHMUS_RETURN_IF_ERROR(products.Add(in.signal_gram, d));
  ISTHMUS_RETURN_IF_ERROR(products.AddTrace(in.gradient_gram));
  if (in.step.defined()) {
    ISTHMUS_RETURN_IF_ERROR(products.Add(step, in.signal_hidden));
  } else {
    ISTHMUS_RETURN_IF_ERROR(products.AddSquare(step));
  }

  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = d, .b = m, .c = square}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = in.signal_gram, .b = d, .c = other}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(other, square));  // tr(D S D M)
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = in.signal_hidden, .b = step, .c = other, .transpose_b = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(other, square));  // tr(B_E B_Eᵀ D M)

  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = m, .b = step, .c = other_tall}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = step, .b = in.hidden_gram, .c = tall}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(tall, other_tall));  // tr(B_E K B_Eᵀ M)
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = in.signal_hidden, .b = own, .c = square, .transpose_b = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = tall, .b = own, .c = other, .transpose_b = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(other, square));  // <B_E K Eᵀ, B_E Eᵀ>
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = d, .b = square, .c = other}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(other, square));  // <D B_E Eᵀ, B_E Eᵀ>

  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = own, .b = in.hidden_gram, .c = tall}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = in.gradient_gram, .b = own, .c = other_tall}, stream));
  ISTHMUS_RETURN_IF_ERROR(products.Add(tall, other_tall));  // tr(E K Eᵀ B_UᵀB_U)
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> values, products.Values());
  const double a = in.hidden_weight, b = in.head_weight, c = in.down_weight;
  HeadUpdateSums sums;
  sums.signal_energy = values[0];
  sums.hidden = values[1];
  sums.rows = values[2];
  sums.down = values[3];
  sums.along = a * values[1] + b * values[2] + c * values[3];
  sums.through_hidden = values[4];
  sums.square = a * a * values[4] + 2 * (a * c * values[5]) + c * c * values[6] + b * b * values[9] +
                2 * (b * c * values[7] + a * b * values[8]);
  return sums;
}

}  // namespace

HeadUpdateMemory HeadUpdateMemory::Place(int64_t width, int64_t hidden_width, bool has_down, TensorPlacer& placer) {
  const auto place = [&](const char* name, int64_t rows, int64_t columns) {
    return placer.Place(name, DType::kFloat64, rows, columns);
  };
  HeadUpdateMemory memory;
  memory.dots = place("update.dots", 1, std::max(width, hidden_width));
  memory.sums = place("update.sums", 1, kSums);
  if (!has_down) return memory;
  memory.down_gram = place("update.down_gram", width, width);
  memory.first_square = place("update.first_square", width, width);
  memory.second_square = place("update.second_square", width, width);
  memory.first_tall = place("update.first_tall", width, hidden_width);
  memory.second_tall = place("update.second_tall", width, hidden_width);
  return memory;
}

absl::StatusOr<HeadUpdateSums> SumUpdate(const HeadUpdateInput& input, const HeadUpdateMemory& memory, Stream& stream) {
  const InnerProducts products(memory.dots, memory.sums, stream);
  return input.down.defined() ? SumWithDown(input, memory, products, stream) : SumPlain(input, products);
}

}  // namespace isthmus
