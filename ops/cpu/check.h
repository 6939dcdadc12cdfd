// Argument checks of the operators.
#ifndef ISTHMUS_OPS_CPU_CHECK_H_
#define ISTHMUS_OPS_CPU_CHECK_H_

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <string>

#include "runtime/tensor.h"

namespace isthmus::cpu {

inline bool IsFloating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat64;
}

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

inline absl::Status CheckFloating(const char* op, const char* name, const Tensor& tensor) {
  const bool present = tensor.defined() || tensor.size() == 0;
  if (present && IsFloating(tensor.dtype) && tensor.row_stride >= tensor.columns) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs fp32, bf16 or fp64, rows that do not overlap"));
}

// `tensor` must be dtype [rows, columns].
inline absl::Status CheckTensor(const char* op, const char* name, const Tensor& tensor, DType dtype, int64_t rows,
                                int64_t columns) {
  const bool present = tensor.defined() || rows * columns == 0;
  if (present && tensor.dtype == dtype && tensor.rows == rows && tensor.columns == columns &&
      tensor.row_stride >= columns) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs ", std::string(Name(dtype)), " [", rows, ", ", columns, "]"));
}

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_CHECK_H_
