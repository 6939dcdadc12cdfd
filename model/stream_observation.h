// Sums up the directions of the residual stream, from which its anisotropy follows: the mean cosine of two tokens
// (arXiv:2401.12143). With n unit rows u it is (‖Σ u‖² - n) / (n² - n).
#ifndef ISTHMUS_MODEL_STREAM_OBSERVATION_H_
#define ISTHMUS_MODEL_STREAM_OBSERVATION_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Adds Σ_n x_n / ‖x_n‖ over the rows of x [N, D] that are not zero to unit_sum, fp64 [1, D]. Adds their number to
// count, fp64 [1, 1]. `squares` is scratch, fp64 [2, N or more]: its first row then begins with ‖x_n‖².
absl::Status AddDirections(const Tensor& x, const Tensor& squares, const Tensor& unit_sum, const Tensor& count,
                           Stream& stream);

// A measured step fills these tensors, in memory of the stream's device. x is the residual stream [local tokens, D] at
// place l: the entrance of layer l, or of the final norm for l = L.
struct StreamObservation {
  Tensor sums;       // fp64 [L + 1, D]: Σ_n x_n
  Tensor unit_sums;  // fp64 [L + 1, D]: Σ_n x_n / ‖x_n‖ over the rows that are not zero
  Tensor counts;     // fp64 [1, L + 1]: the number of those rows
  Tensor positions;  // int32 [1, S]: the rows of x that are sampled; -1: none of this micro-batch
  Tensor sampled;    // [(L + 1) S, D] dtype of x: those rows, S for each place
  Tensor found;      // [S, D] dtype of x; scratch
  Tensor squares;    // fp64 [2, local tokens or more]; scratch

  bool defined() const { return sums.defined(); }
  // Adds the figures of x at `place`.
  absl::Status Add(int64_t place, const Tensor& x, Stream& stream) const;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_STREAM_OBSERVATION_H_
