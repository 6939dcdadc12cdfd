// Rows of a matrix in fp64, with their memory.
#ifndef ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_
#define ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_

#include <cstdint>
#include <vector>

#include "runtime/tensor.h"

namespace isthmus {

struct HostBlock {
  std::vector<double> values;
  int64_t rows = 0, columns = 0;
  // A view of `values`: it is not to be written through.
  Tensor tensor() const { return Tensor(const_cast<double*>(values.data()), DType::kFloat64, rows, columns); }
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_HOST_BLOCK_H_
