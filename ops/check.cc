#include "ops/check.h"

#include <absl/strings/str_cat.h>

#include <string>

namespace isthmus {
namespace {

bool IsFloating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat64;
}

}  // namespace

absl::Status CheckFloating(const char* op, const char* name, const ConstTensor& tensor) {
  const bool present = tensor.defined() || tensor.size() == 0;
  if (present && IsFloating(tensor.dtype) && tensor.row_stride >= tensor.columns) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs fp32, bf16 or fp64, rows that do not overlap"));
}

absl::Status CheckTensor(const char* op, const char* name, const ConstTensor& tensor, DType dtype, int64_t rows,
                         int64_t columns) {
  const bool present = tensor.defined() || rows * columns == 0;
  if (present && tensor.dtype == dtype && tensor.rows == rows && tensor.columns == columns &&
      tensor.row_stride >= columns) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs ", std::string(Name(dtype)), " [", rows, ", ", columns, "]"));
}

absl::Status CheckDevice(const char* op, const ConstTensor& tensor, Device device) {
  if (device == Device::kCpu || tensor.dtype != DType::kFloat64) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(op, ": ", tensor.Describe(), " on a GPU; fp64 runs on the CPU"));
}

}  // namespace isthmus
