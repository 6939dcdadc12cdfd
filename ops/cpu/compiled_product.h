// Matrix products by oneDNN's primitives, whose code is compiled once per shape.
//
// A matrix of one row or one column is passed to oneDNN dense. oneDNN 3 assumes that its elements are adjacent,
// whatever stride is stated. It would read a column of op(a) or op(b) from the wrong places and write between the rows
// of c.
#ifndef ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_
#define ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_

#include <absl/status/statusor.h>

#include "ops/matmul.h"

namespace isthmus::cpu {

// Does the work of Matmul for fp32 or bf16 tensors whose shapes agree and are not empty. Returns false, and does
// nothing, if oneDNN has no such product for this processor. `implementation` is an index into oneDNN's list, whose
// order differs between processors. With it tests reach a product that comes first on other processors. For tests it
// also accepts products of fp32, which Matmul does not take from here.
absl::StatusOr<bool> CompiledProduct(const MatmulArgs& args, int implementation = 0);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_COMPILED_PRODUCT_H_
