// The library cuBLASLt: its functions, handles that end with their owner, descriptions, attributes and errors.
#ifndef ISTHMUS_OPS_CUDA_CUBLASLT_H_
#define ISTHMUS_OPS_CUDA_CUBLASLT_H_

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <type_traits>

#include "runtime/tensor.h"

namespace isthmus::cuda {

// cuBLASLt's functions. The library is loaded when the first of them is asked for: loading it takes 0.2 s of processor
// time and 100 MB of memory, which a start without a GPU saves.
struct CublasLt {
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatrixLayoutCreate) create_layout;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout;
  decltype(&cublasLtMatmulDescCreate) create_operation;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
  decltype(&cublasLtMatmulAlgoGetHeuristic) propose;
  decltype(&cublasLtMatmulAlgoCheck) check;
  decltype(&cublasLtMatmul) multiply;
};

// Loads the library once. An error names the file and the loader's reason.
absl::StatusOr<const CublasLt*> LoadCublasLt();
// The loaded library. Whoever has a handle may call this.
const CublasLt& Lt();

inline absl::Status CheckLt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(call, ": ", Lt().status_name(status), ": ", Lt().status_text(status)));
}

// Handles of cuBLASLt end with their owner.
template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* handle) const {
    (Lt().*kDestroy)(handle);
  }
};
using Handle = std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, Destroy<&CublasLt::destroy>>;
using Operation = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, Destroy<&CublasLt::destroy_operation>>;
using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, Destroy<&CublasLt::destroy_layout>>;
using Preference =
    std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, Destroy<&CublasLt::destroy_preference>>;

absl::StatusOr<Handle> MakeHandle();

// cuBLASLt counts by columns: the rows of `tensor` are its columns.
absl::StatusOr<Layout> MakeLayout(const ConstTensor& tensor);

// A product with sums in fp32 or fp64, of operands as cuBLASLt counts them. Factors of its terms are of that type.
absl::StatusOr<Operation> MakeOperation(cublasOperation_t first, cublasOperation_t second, DType sums);

// The limits of an algorithm for c = a · b, counted in rows. It has the context's scratch memory and the operands'
// alignment. It may use no sums whose order the scheduler decides. By columns b comes first.
absl::StatusOr<Preference> MakePreference(const ConstTensor& a, const ConstTensor& b, const ConstTensor& c);

template <typename T>
absl::Status Set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  return CheckLt(Lt().set_operation(operation.get(), attribute, &value, sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
}
template <typename T>
absl::Status Set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  return CheckLt(Lt().set_preference(preference.get(), attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute");
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_CUBLASLT_H_
