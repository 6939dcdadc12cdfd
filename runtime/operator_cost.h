// The cost of one call of an operator, which follows from its arguments.
#ifndef ISTHMUS_RUNTIME_OPERATOR_COST_H_
#define ISTHMUS_RUNTIME_OPERATOR_COST_H_

#include <cstdint>

#include "runtime/dtype.h"

namespace isthmus {

struct OperatorCost {
  // The rate that limits a call's time besides the memory's.
  enum class Kind : uint8_t { kMemory, kProduct, kFp8Product, kAttentionForward, kAttentionBackward };

  const char* name = "";  // of the operator, for people: "product", "RMS norm"; lives as long as the program
  Kind kind = Kind::kMemory;
  DType type = DType::kFloat32;  // of the operands
  double flops = 0;              // 0 of kMemory
  double bytes = 0;              // operands and results, each once for being read and once for being written
  int kernels = 1;               // that a GPU starts
  // c [m, n] = a [m, k] b [k, n] of a product; 0 of other operators.
  int64_t m = 0, n = 0, k = 0;

  friend bool operator==(const OperatorCost&, const OperatorCost&) = default;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_OPERATOR_COST_H_
