// Matrix products by cuBLASLt.
#include "ops/matmul.h"

#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "ops/cuda/kernels.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

absl::Status CheckLt(cublasStatus_t status, const char* call) {
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

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two, 256 at most, that the address and every row of the tensor are multiples of, in bytes.
uint32_t AlignmentOf(const Tensor& tensor) {
  auto bits = reinterpret_cast<uintptr_t>(tensor.data) | 256U;
  if (tensor.rows > 1) bits |= static_cast<uintptr_t>(tensor.row_stride * SizeOf(tensor.dtype));
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// A product as prepared for its shape.
struct Plan {
  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

absl::StatusOr<Layout> MakeLayout(const Tensor& tensor) {
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

// The products of one stream. A plan is made once per shape, alignment and type.
class Products {
 public:
  absl::Status Multiply(const MatmulArgs& args, const Context& context) {
    if (handle_ == nullptr) {
      cublasLtHandle_t handle = nullptr;
      ISTHMUS_RETURN_IF_ERROR(CheckLt(cublasLtCreate(&handle), "cublasLtCreate"));
      handle_.reset(handle);
    }
    const MatmulSizes sizes = SizesOf(args);
    const Key key = {sizes.m,
                     sizes.n,
                     sizes.k,
                     args.a.row_stride,
                     args.b.row_stride,
                     args.c.row_stride,
                     args.transpose_a,
                     args.transpose_b,
                     args.accumulate,
                     args.a.dtype,
                     args.c.dtype,
                     AlignmentOf(args.a),
                     AlignmentOf(args.b),
                     AlignmentOf(args.c)};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      ISTHMUS_ASSIGN_OR_RETURN(Plan plan, Prepare(args));
      found = plans_.emplace(key, std::move(plan)).first;
    }
    const Plan& plan = found->second;
    const float one = 1, old = args.accumulate ? 1 : 0;
    // By columns cᵀ = op(b)ᵀ op(a)ᵀ: b comes first.
    return CheckLt(
        cublasLtMatmul(handle_.get(), plan.operation.get(), &one, args.b.data, plan.b.get(), args.a.data, plan.a.get(),
                       &old, args.c.data, plan.c.get(), args.c.data, plan.c.get(), &plan.algorithm, context.scratch,
                       static_cast<size_t>(Context::kScratchBytes), context.stream),
        "cublasLtMatmul");
  }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, bool, DType, DType, uint32_t,
                         uint32_t, uint32_t>;

  absl::StatusOr<Plan> Prepare(const MatmulArgs& args) const {
    Plan plan;
    cublasLtMatmulDesc_t operation = nullptr;
    ISTHMUS_RETURN_IF_ERROR(
        CheckLt(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate"));
    plan.operation.reset(operation);
    const auto operand = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    ISTHMUS_RETURN_IF_ERROR(Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, operand(args.transpose_b)));
    ISTHMUS_RETURN_IF_ERROR(Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, operand(args.transpose_a)));
    ISTHMUS_ASSIGN_OR_RETURN(plan.a, MakeLayout(args.a));
    ISTHMUS_ASSIGN_OR_RETURN(plan.b, MakeLayout(args.b));
    ISTHMUS_ASSIGN_OR_RETURN(plan.c, MakeLayout(args.c));

    cublasLtMatmulPreference_t raw_preference = nullptr;
    ISTHMUS_RETURN_IF_ERROR(CheckLt(cublasLtMatmulPreferenceCreate(&raw_preference), "cublasLtMatmulPreferenceCreate"));
    const Preference preference(raw_preference);
    ISTHMUS_RETURN_IF_ERROR(
        Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(Context::kScratchBytes)));
    // No sums whose order the scheduler decides.
    ISTHMUS_RETURN_IF_ERROR(
        Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)));
    ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(args.b)));
    ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(args.a)));
    ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(args.c)));
    ISTHMUS_RETURN_IF_ERROR(Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(args.c)));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_.get(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                       plan.c.get(), preference.get(), 1, &result, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
      return absl::UnimplementedError(absl::StrCat("cuBLASLt has no algorithm for ", args.c.Describe(), " = ",
                                                   args.a.Describe(), args.transpose_a ? "ᵀ · " : " · ",
                                                   args.b.Describe(), args.transpose_b ? "ᵀ" : "", ": ",
                                                   cublasLtGetStatusString(status)));
    }
    plan.algorithm = result.algo;
    return plan;
  }

  Handle handle_;
  std::map<Key, Plan> plans_;
};

}  // namespace

int64_t CublasLtVersionNumber() { return static_cast<int64_t>(cublasLtGetVersion()); }

absl::Status Matmul(const MatmulArgs& args, const Context& context) {
  const MatmulSizes sizes = SizesOf(args);
  if (sizes.m == 0 || sizes.n == 0) return absl::OkStatus();
  if (sizes.k == 0) return args.accumulate ? absl::OkStatus() : SetZero(args.c, context);
  return context.Service<Products>().Multiply(args, context);
}

}  // namespace isthmus::cuda
