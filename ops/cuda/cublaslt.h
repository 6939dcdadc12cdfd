// What the products by cuBLASLt share: handles that end with their owner, layouts, attributes, errors.
#ifndef ISTHMUS_OPS_CUDA_CUBLASLT_H_
#define ISTHMUS_OPS_CUDA_CUBLASLT_H_

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "runtime/status.h"
#include "runtime/tensor.h"

namespace isthmus::cuda {

inline absl::Status CheckLt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cublasLtGetStatusName(status), ": ", cublasLtGetStatusString(status)));
}

// Handles of cuBLASLt end with their owner.
template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* handle) const {
    kDestroy(handle);
  }
};
using Handle = std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, Destroy<&cublasLtDestroy>>;
using Operation = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, Destroy<&cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, Destroy<&cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, Destroy<&cublasLtMatmulPreferenceDestroy>>;

inline cudaDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat8E4M3:
      return CUDA_R_8F_E4M3;
    case DType::kFloat8E5M2:
      return CUDA_R_8F_E5M2;
    default:
      return CUDA_R_32F;
  }
}

inline absl::StatusOr<Layout> MakeLayout(const Tensor& tensor) {
  cublasLtMatrixLayout_t layout = nullptr;
  // cuBLASLt counts by columns: our rows are its columns.
  ISTHMUS_RETURN_IF_ERROR(CheckLt(
      cublasLtMatrixLayoutCreate(&layout, TypeOf(tensor.dtype), static_cast<uint64_t>(tensor.columns),
                                 static_cast<uint64_t>(tensor.rows), std::max(tensor.row_stride, tensor.columns)),
      "cublasLtMatrixLayoutCreate"));
  return Layout(layout);
}

template <typename T>
absl::Status Set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  return CheckLt(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
}
template <typename T>
absl::Status Set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  return CheckLt(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute");
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_CUBLASLT_H_
