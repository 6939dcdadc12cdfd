// Matrix products in fp64 through Eigen, because oneDNN has none.
#ifndef ISTHMUS_OPS_CPU_FP64_PRODUCT_H_
#define ISTHMUS_OPS_CPU_FP64_PRODUCT_H_

#include "ops/matmul.h"

namespace isthmus::cpu {

// Does the work of Matmul for fp64 tensors whose shapes agree, on the calling thread.
void Fp64Product(const MatmulArgs& args);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_FP64_PRODUCT_H_
