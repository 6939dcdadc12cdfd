// The tensors that a step's head decomposition is of, kept for whoever wants to compute it again.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_

#include <cstdint>
#include <vector>

#include "runtime/tensor.h"

namespace isthmus {

// In host memory, fp32 (fp64 of an fp64 model): bf16 numbers are widened.
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
  Matrix down;                   // E of a head W = U E, else empty
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_DUMP_H_
