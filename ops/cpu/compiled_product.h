// Matrix products by oneDNN's primitives, whose code is compiled once per shape.
//
// A matrix of one row or one column reaches oneDNN dense: oneDNN 3 takes it for adjacent elements, whatever stride is
// stated. It would read a column of op(a) or op(b) from the wrong places and write between the rows of c.
#ifndef ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_
#define ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_

#include <absl/status/statusor.h>

#include "ops/matmul.h"

namespace isthmus::cpu {

// As Matmul with fp32 or bf16 tensors whose shapes agree and are not empty. False, and nothing is done, where oneDNN
// has no such product for this processor. `implementation`: the place of one in oneDNN's order, which differs between
// processors: tests see here what is the first on others. For that products of fp32 are accepted, which Matmul does not
// take from here.
absl::StatusOr<bool> CompiledProduct(const MatmulArgs& args, int implementation = 0);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_
