// Powers of two that bring the tensors of a decomposition into a range in which their fourth powers neither overflow
// nor vanish. Multiplying by them is exact, so figures that do not depend on the scale keep their bits. Tensors whose
// largest numbers already lie in that range are left unchanged.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_SCALES_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_SCALES_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "runtime/tensor.h"

namespace isthmus {

struct HeadTensors;

// H = 2^hidden H_s and W = 2^head W_s. For a head W = U E, U[:, j] = 2^up[j] U_s[:, j] and E[j, :] = 2^down[j] E_s[j,
// :]. With up[j] + down[j] = head, W_s = U_s E_s. Large columns of one factor may stand beside small rows of the other.
// `up` and `down` are empty if both factors are left unchanged.
struct TensorScales {
  int hidden = 0, head = 0;
  bool no_hidden = false;  // true if H is zero; it has no scale then
  std::vector<int> up, down;
  int up_exponent = 0, down_exponent = 0;  // of U's largest column and E's largest row, if `up` is not empty

  // Collective over both groups; all ranks get the same. Errors: InvalidArgument if a number is not finite, naming the
  // tensor, the row and the column.
  static absl::StatusOr<TensorScales> Of(const HeadTensors& tensors, Communicator& tensor, Communicator& data);

  // These are the factors of the logits' change through the hidden states, through U (or a plain W), and through E.
  // They are divided by the largest of them. The exponents are those of the undivided factors, all even.
  struct UpdateWeights {
    double hidden = 1, head = 1, down = 1;
    int hidden_exponent = 0, head_exponent = 0, down_exponent = 0;
  };
  UpdateWeights ForUpdate() const;
};

// Returns x 2^exponent, number by number.
Matrix TimesPowerOfTwo(Matrix x, int exponent);
// These multiply column, or row, i by 2^exponents[i]. An empty `exponents` changes nothing.
Matrix ScaledColumns(Matrix x, const std::vector<int>& exponents);
Matrix ScaledRows(Matrix x, const std::vector<int>& exponents);

// Returns the exponent of the largest number of `x`. It is 0 if that lies in the range already, or all are zero.
int ExponentToTakeOff(const Matrix& x);

// Finds the first number, by row and column, that is not finite among those that a rank has searched.
class NonFinite {
 public:
  void Note(int64_t row, int64_t column, double value);
  // Notes the first one in `x`, whose first element is (row, column).
  void Search(const ConstMatrixView& x, int64_t row, int64_t column);

  struct Place {
    int64_t row = 0, column = 0;
    const char* value = "";
  };
  // Returns the first one of all ranks. Collective over both groups.
  absl::StatusOr<std::optional<Place>> First(Communicator& tensor, Communicator& data) const;

 private:
  double row_ = std::numeric_limits<double>::infinity(), column_ = row_, kind_ = row_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_SCALES_H_
