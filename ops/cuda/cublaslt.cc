#include "ops/cuda/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <string>

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

// Finds the functions of a loaded library by their names.
class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {}
  template <typename Function>
  void Find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(library_, name));
    if (function == nullptr && missing_.empty()) missing_ = name;
  }
  // The first name that the library lacks, or nothing.
  const std::string& missing() const { return missing_; }

 private:
  void* library_;
  std::string missing_;
};

absl::StatusOr<CublasLt> Load() {
  constexpr const char* kRemedy =
      "; GPUs need the CUDA Toolkit with which this program was built: install it, or name its folder of libraries in "
      "LD_LIBRARY_PATH";
  const std::string name = absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::NotFoundError(absl::StrCat("cuBLASLt can't be loaded: ", dlerror(), kRemedy));
  CublasLt lt{};
  Symbols symbols(library);
  symbols.Find("cublasLtGetVersion", lt.version);
  symbols.Find("cublasLtGetStatusName", lt.status_name);
  symbols.Find("cublasLtGetStatusString", lt.status_text);
  symbols.Find("cublasLtCreate", lt.create);
  symbols.Find("cublasLtDestroy", lt.destroy);
  symbols.Find("cublasLtMatrixLayoutCreate", lt.create_layout);
  symbols.Find("cublasLtMatrixLayoutDestroy", lt.destroy_layout);
  symbols.Find("cublasLtMatmulDescCreate", lt.create_operation);
  symbols.Find("cublasLtMatmulDescDestroy", lt.destroy_operation);
  symbols.Find("cublasLtMatmulDescSetAttribute", lt.set_operation);
  symbols.Find("cublasLtMatmulPreferenceCreate", lt.create_preference);
  symbols.Find("cublasLtMatmulPreferenceDestroy", lt.destroy_preference);
  symbols.Find("cublasLtMatmulPreferenceSetAttribute", lt.set_preference);
  symbols.Find("cublasLtMatmulAlgoGetHeuristic", lt.propose);
  symbols.Find("cublasLtMatmulAlgoCheck", lt.check);
  symbols.Find("cublasLtMatmul", lt.multiply);
  if (symbols.missing().empty()) return lt;
  return absl::NotFoundError(absl::StrCat(name, " has no function ", symbols.missing(), kRemedy));
}

}  // namespace

absl::StatusOr<const CublasLt*> LoadCublasLt() {
  static const absl::StatusOr<CublasLt> loaded = Load();
  if (!loaded.ok()) return loaded.status();
  return &*loaded;
}

const CublasLt& Lt() { return *LoadCublasLt().value(); }

absl::StatusOr<Handle> MakeHandle() {
  ISTHMUS_ASSIGN_OR_RETURN(const CublasLt* lt, LoadCublasLt());
  cublasLtHandle_t handle = nullptr;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(lt->create(&handle), "cublasLtCreate"));
  return Handle(handle);
}

absl::StatusOr<Layout> MakeLayout(const ConstTensor& tensor) {
  cublasLtMatrixLayout_t layout = nullptr;
  ISTHMUS_RETURN_IF_ERROR(
      CheckLt(Lt().create_layout(&layout, TypeOf(tensor.dtype), static_cast<uint64_t>(tensor.columns),
                                 static_cast<uint64_t>(tensor.rows), std::max(tensor.row_stride, tensor.columns)),
              "cublasLtMatrixLayoutCreate"));
  return Layout(layout);
}

absl::StatusOr<Operation> MakeOperation(cublasOperation_t first, cublasOperation_t second, DType sums) {
  cublasLtMatmulDesc_t raw = nullptr;
  const auto compute = sums == DType::kFloat64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(Lt().create_operation(&raw, compute, TypeOf(sums)), "cublasLtMatmulDescCreate"));
  Operation operation(raw);
  ISTHMUS_RETURN_IF_ERROR(Set(operation, CUBLASLT_MATMUL_DESC_TRANSA, first));
  ISTHMUS_RETURN_IF_ERROR(Set(operation, CUBLASLT_MATMUL_DESC_TRANSB, second));
  return operation;
}

absl::StatusOr<Preference> MakePreference(const ConstTensor& a, const ConstTensor& b, const ConstTensor& c) {
  cublasLtMatmulPreference_t raw = nullptr;
  ISTHMUS_RETURN_IF_ERROR(CheckLt(Lt().create_preference(&raw), "cublasLtMatmulPreferenceCreate"));
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
