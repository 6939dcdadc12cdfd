#include "ops/cuda/cublaslt.h"

#include <algorithm>

#include "ops/cuda/matmul_algorithms.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

cudaDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat64:
      return CUDA_R_64F;
    case DType::kFloat8E4M3:
      return CUDA_R_8F_E4M3;
    case DType::kFloat8E5M2:
      return CUDA_R_8F_E5M2;
    default:
      return CUDA_R_32F;
  }
}

}  // namespace

absl::StatusOr<Handle> MakeHandle() {
  cublasLtHandle_t handle = nullptr;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(cublasLtCreate(&handle), "cublasLtCreate"));
  return Handle(handle);
}

absl::StatusOr<Layout> MakeLayout(const ConstTensor& tensor) {
  cublasLtMatrixLayout_t layout = nullptr;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(
      cublasLtMatrixLayoutCreate(&layout, TypeOf(tensor.dtype), static_cast<uint64_t>(tensor.columns),
                                 static_cast<uint64_t>(tensor.rows), std::max(tensor.row_stride, tensor.columns)),
      "cublasLtMatrixLayoutCreate"));
  return Layout(layout);
}

absl::StatusOr<Operation> MakeOperation(cublasOperation_t first, cublasOperation_t second, DType sums) {
  cublasLtMatmulDesc_t raw = nullptr;
  const auto compute = sums == DType::kFloat64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(cublasLtMatmulDescCreate(&raw, compute, TypeOf(sums)), "cublasLtMatmulDescCreate"));
  Operation operation(raw);
  ISTHMUS_RETURN_IF_ERROR(Set(operation, CUBLASLT_MATMUL_DESC_TRANSA, first));
  ISTHMUS_RETURN_IF_ERROR(Set(operation, CUBLASLT_MATMUL_DESC_TRANSB, second));
  return operation;
}

absl::StatusOr<Preference> MakePreference(const ConstTensor& a, const ConstTensor& b, const ConstTensor& c) {
  cublasLtMatmulPreference_t raw = nullptr;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate"));
  Preference preference(raw);
  ISTHMUS_RETURN_IF_ERROR(
      Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(Context::kScratchBytes)));
  ISTHMUS_RETURN_IF_ERROR(
      Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
          static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)));  // parts of a sum are of its type, too
  ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, RowAlignment(b)));
  ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, RowAlignment(a)));
  ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, RowAlignment(c)));
  ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, RowAlignment(c)));
  return preference;
}

}  // namespace isthmus::cuda
