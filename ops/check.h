// Checks of operators' arguments, the same for every device: what the headers of operators promise as InvalidArgument.
// Messages begin with `op`, the operator, and `name`, the argument.
#ifndef ISTHMUS_OPS_CHECK_H_
#define ISTHMUS_OPS_CHECK_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// InvalidArgument unless `tensor` is fp32, bf16 or fp64 with rows that do not overlap. It may have no data where it has
// no elements.
absl::Status CheckFloating(const char* op, const char* name, const ConstTensor& tensor);

// InvalidArgument unless `tensor` is `dtype` [rows, columns] with rows that do not overlap. It may have no data where it
// has no elements.
absl::Status CheckTensor(const char* op, const char* name, const ConstTensor& tensor, DType dtype, int64_t rows,
                         int64_t columns);

// Unimplemented where `tensor` is fp64 and the device a GPU. GPUs train in fp32 and bf16; fp64 is the CPU's, as an
// oracle. Products and what the head's algebra needs besides exist in fp64 on both: those operators skip this check.
absl::Status CheckDevice(const char* op, const ConstTensor& tensor, Device device);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CHECK_H_
