#include "ops/cost.h"

namespace isthmus {

OperatorCost MemoryPass(const char* name, std::initializer_list<ConstTensor> tensors, int kernels) {
  OperatorCost cost{.name = name, .kernels = kernels};
  for (const ConstTensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (cost.bytes == 0) cost.type = tensor.dtype;
    cost.bytes += static_cast<double>(tensor.bytes());
  }
  return cost;
}

OperatorCost ProductCost(const char* name, const ConstTensor& a, const ConstTensor& b, const ConstTensor& c, int64_t k,
                         bool accumulate) {
  OperatorCost cost = MemoryPass(name, {a, b, c, accumulate ? c : ConstTensor()});
  cost.kind = OperatorCost::Kind::kProduct;
  cost.flops = 2 * static_cast<double>(c.rows) * static_cast<double>(c.columns) * static_cast<double>(k);
  cost.m = c.rows;
  cost.n = c.columns;
  cost.k = k;
  return cost;
}

}  // namespace isthmus
