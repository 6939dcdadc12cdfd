// Powers of two that bring the tensors of a decomposition into a range in which their fourth powers neither overflow
// nor vanish. To multiply by them is exact, so that what does not depend on the scale has the bits it would have had.
// Tensors whose largest numbers lie in that range already are left as they are.
#ifndef ISTHMUS_MODEL_DECOMPOSITION_TENSOR_SCALES_H_
#define ISTHMUS_MODEL_DECOMPOSITION_TENSOR_SCALES_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "model/decomposition/matrix.h"
#include "parallel/communicator.h"
#include "runtime/tensor.h"

namespace isthmus {

struct HeadTensors;

// H = 2^hidden H_s and W = 2^head W_s. Of a factorised head U[:, j] = 2^up[j] U_s[:, j] and E[j, :] = 2^down[j]
// E_s[j, :] with up[j] + down[j] = head, so that W_s = U_s E_s: large columns of one may stand beside small rows of the
// other. Empty where both factors are left as they are.
struct TensorScales {
  int hidden = 0, head = 0;
  bool no_hidden = false;  // H is zero, whatever its scale
  std::vector<int> up, down;
  int up_exponent = 0, down_exponent = 0;  // of the largest column of U, and row of E, where these are not empty

  // Collective over both groups, which then know the same. Errors: InvalidArgument where a number is not finite, naming
  // the tensor, the row and the column.
  static absl::StatusOr<TensorScales> Of(const HeadTensors& tensors, Communicator& tensor, Communicator& data);

  // What each part of the change of the logits is to be multiplied by, after division by the largest of them: that
  // through the hidden states, that through U (or a plain W), and that through E.
  struct UpdateWeights {
    double hidden = 1, head = 1, down = 1;
  };
  UpdateWeights ForUpdate() const;
};

// x 2^exponent, number by number.
Matrix TimesPowerOfTwo(Matrix x, int exponent);
// Columns, or rows, times 2^exponents[i]; as they are where `exponents` is empty.
Matrix ScaledColumns(Matrix x, const std::vector<int>& exponents);
Matrix ScaledRows(Matrix x, const std::vector<int>& exponents);

// The exponent that brings the largest of them to 1; 0 where it lies in the range already, or all are zero.
int ExponentToTakeOff(const Matrix& x);

// The first number that is not finite, by row and column, that a rank has come across.
class NonFinite {
 public:
  void Note(int64_t row, int64_t column, double value);
  // Notes the first of them in `x`, whose first element is (row, column).
  void Search(const MatrixView& x, int64_t row, int64_t column);

  struct Place {
    int64_t row = 0, column = 0;
    const char* value = "";
  };
  // The first one of all ranks. Collective over both groups.
  absl::StatusOr<std::optional<Place>> First(Communicator& tensor, Communicator& data) const;

 private:
  double row_ = std::numeric_limits<double>::infinity(), column_ = row_, kind_ = row_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_DECOMPOSITION_TENSOR_SCALES_H_
