// Products of bf16 matrices on processors that don't multiply bf16 themselves, for lack of AVX-512's bf16 instructions.
// They are formed in fp32 from operands that are widened block by block.
#ifndef ISTHMUS_OPS_CPU_WIDENED_PRODUCT_H_
#define ISTHMUS_OPS_CPU_WIDENED_PRODUCT_H_

#include <absl/status/status.h>

#include "ops/matmul.h"

namespace isthmus::cpu {

// Does the work of Matmul for bf16 a and b whose shapes agree and are not empty. Products of two bf16 numbers are exact
// in fp32; the sums are fp32's. At most 12 MiB of scratch are kept for the next call.
absl::Status WidenedProduct(const MatmulArgs& args);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_WIDENED_PRODUCT_H_
