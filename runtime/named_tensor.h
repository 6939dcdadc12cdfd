// A tensor with the name that messages give it.
#ifndef ISTHMUS_RUNTIME_NAMED_TENSOR_H_
#define ISTHMUS_RUNTIME_NAMED_TENSOR_H_

#include <string>

#include "runtime/tensor.h"

namespace isthmus {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_NAMED_TENSOR_H_
