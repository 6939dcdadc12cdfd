// Checks of operators' arguments, the same for every device. They return the InvalidArgument that the operators'
// headers promise. Messages begin with `op`, the operator, and `name`, the argument.
#ifndef ISTHMUS_OPS_CHECK_H_
#define ISTHMUS_OPS_CHECK_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Returns InvalidArgument unless `tensor` is fp32, bf16 or fp64 with rows that do not overlap. A tensor without
// elements may have no data.
absl::Status CheckFloating(const char* op, const char* name, const ConstTensor& tensor);

// Returns InvalidArgument unless `tensor` is `dtype` [rows, columns] with rows that do not overlap. A tensor without
// elements may have no data.
absl::Status CheckTensor(const char* op, const char* name, const ConstTensor& tensor, DType dtype, int64_t rows,
                         int64_t columns);

// Returns Unimplemented if `tensor` is fp64 and the device is a GPU. GPUs train in fp32 and bf16; fp64 serves as an
// oracle on the CPU. Products and the other operators of the head's algebra exist in fp64 on both devices and skip this
// check.
absl::Status CheckDevice(const char* op, const ConstTensor& tensor, Device device);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CHECK_H_
