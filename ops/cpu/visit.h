// Leads from a dtype to its C++ type.
#ifndef ISTHMUS_OPS_CPU_VISIT_H_
#define ISTHMUS_OPS_CPU_VISIT_H_

#include "runtime/dtype.h"

namespace isthmus::cpu {

// Calls visit with a value of the C++ type of a floating-point dtype: VisitFloating(dtype, [&](auto zero) { ... }).
template <typename Visit>
void VisitFloating(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kFloat64:
      return visit(double{});
    case DType::kBFloat16:
      return visit(BFloat16{});
    default:
      return visit(float{});
  }
}

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_VISIT_H_
