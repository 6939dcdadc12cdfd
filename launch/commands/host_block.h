// A block holds rows of a matrix in fp64, with their memory.
#ifndef ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_
#define ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_

#include <cstdint>
#include <vector>

#include "runtime/tensor.h"

namespace isthmus {

struct HostBlock {
  std::vector<double> values;
  int64_t rows = 0, columns = 0;
  Tensor tensor() { return Tensor(values.data(), DType::kFloat64, rows, columns); }
  ConstTensor tensor() const { return ConstTensor(values.data(), DType::kFloat64, rows, columns); }
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_
