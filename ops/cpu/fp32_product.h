// Matrix products in fp32 by oneDNN.
#ifndef ISTHMUS_OPS_CPU_FP32_PRODUCT_H_
#define ISTHMUS_OPS_CPU_FP32_PRODUCT_H_

#include <absl/status/status.h>

#include "ops/matmul.h"

namespace isthmus::cpu {

// Does the work of Matmul for fp32 tensors whose shapes agree and are not empty.
absl::Status Fp32Product(const MatmulArgs& args);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_FP32_PRODUCT_H_
