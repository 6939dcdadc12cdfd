// Parts of operators' costs. Each operator's Args state their cost by Cost(), which Dispatch records (ops/operator.h).
#ifndef ISTHMUS_OPS_COST_H_
#define ISTHMUS_OPS_COST_H_

#include <cstdint>
#include <initializer_list>

#include "runtime/operator_cost.h"
#include "runtime/tensor.h"

namespace isthmus {

// The cost of a pass over memory: the bytes of the defined tensors. The first of them gives the type. A tensor that is
// both read and written is listed twice.
OperatorCost MemoryPass(const char* name, std::initializer_list<ConstTensor> tensors, int kernels = 1);

// The cost of c [m, n] = a [m, k] b [k, n]: 2 m n k operations. a and b are read and c is written; c is also read if it
// is added to.
OperatorCost ProductCost(const char* name, const ConstTensor& a, const ConstTensor& b, const ConstTensor& c, int64_t k,
                         bool accumulate);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_COST_H_
