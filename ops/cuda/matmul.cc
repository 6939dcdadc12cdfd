// Matrix products by cuBLASLt.
#include "ops/matmul.h"

#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <tuple>
#include <utility>

#include "ops/cuda/cublaslt.h"
#include "ops/cuda/kernels.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

// A product as prepared for its shape.
struct Plan {
  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

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
