// Keeps the tensors that a step's head decomposition is computed from, so that it can be computed again.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_

#include <absl/status/status.h>

#include <cstdint>
#include <vector>

#include "model/heads/lm_head.h"
#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The matrices lie in host memory, in fp32 (fp64 of an fp64 model): bf16 numbers are widened.
struct HeadDump {
  struct Matrix {
    DType type = DType::kFloat32;
    int64_t rows = 0, columns = 0;
    std::vector<char> bytes;
    Tensor tensor() { return Tensor(bytes.data(), type, rows, columns); }
  };
  Matrix hidden;                 // [n, D] after the final norm, this data rank's tokens of the step
  std::vector<int32_t> targets;  // [n]
  Matrix weight;                 // [V_i, D], or U of a head W = U E; as they were before the step's update
  std::vector<int32_t> classes;  // of all ranks, the row of the vocabulary of each class (HeadClasses); empty: all rows
  Matrix down;                   // E of a head W = U E, else empty
  Matrix bias;                   // b [V_i, 1] of a head that has one, else empty
  int64_t filled = 0;            // rows of `hidden`

  // Copies the head and targets int32 [1, n] in host memory, and makes room for hidden states of `width` columns. Waits
  // for the stream.
  absl::Status Begin(const HeadView& head, const Tensor& host_targets, int64_t width, const Stream& stream);
  // Copies the next hidden states [N, D]. Waits for the stream.
  absl::Status Add(const Tensor& hidden_states, const Stream& stream);
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_
