// Products of 8-bit operands by cuBLASLt.
#include "ops/fp8_matmul.h"

#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <tuple>
#include <utility>

#include "ops/cuda/cublaslt.h"
#include "ops/cuda/matmul_algorithms.h"
#include "ops/elementwise.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

// A product as prepared for its shape.
struct Fp8Plan {
  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

// The addresses from which a running product reads the operands' scales. By columns b comes first.
absl::Status SetScales(const Operation& operation, const Fp8MatmulArgs& args) {
  const void *first = args.b_inverse.data, *second = args.a_inverse.data;
  ISTHMUS_RETURN_IF_ERROR(Set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, first));
  return Set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, second);
}

// The products of one stream. A plan is made once per shape, alignment and type.
class Fp8Products {
 public:
  absl::Status Multiply(const Fp8MatmulArgs& args, const Context& context) {
    if (handle_ == nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(handle_, MakeHandle());
    }
    const Key key = {args.c.rows,          args.c.columns,      args.a.columns,  args.a.row_stride,
                     args.b.row_stride,    args.c.row_stride,   args.accumulate, args.fast_sums,
                     args.a.dtype,         args.b.dtype,        args.c.dtype,    RowAlignment(args.a),
                     RowAlignment(args.b), RowAlignment(args.c)};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      ISTHMUS_ASSIGN_OR_RETURN(Fp8Plan plan, Prepare(args));
      found = plans_.emplace(key, std::move(plan)).first;
    }
    const Fp8Plan& plan = found->second;
    ISTHMUS_RETURN_IF_ERROR(SetScales(plan.operation, args));
    const float one = 1, old = args.accumulate ? 1 : 0;
    // By columns cᵀ = (bᵀ)ᵀ aᵀ: b comes first, transposed. cuBLASLt has only this combination for 8 bits.
    return CheckLt(
        Lt().multiply(handle_.get(), plan.operation.get(), &one, args.b.data, plan.b.get(), args.a.data, plan.a.get(),
                      &old, args.c.data, plan.c.get(), args.c.data, plan.c.get(), &plan.algorithm, context.scratch,
                      static_cast<size_t>(Context::kScratchBytes), context.stream),
        "cublasLtMatmul of fp8");
  }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, DType, DType, DType,
                         uint32_t, uint32_t, uint32_t>;

  absl::StatusOr<Fp8Plan> Prepare(const Fp8MatmulArgs& args) const {
    Fp8Plan plan;
    ISTHMUS_ASSIGN_OR_RETURN(plan.operation, MakeOperation(CUBLAS_OP_T, CUBLAS_OP_N, DType::kFloat32));
    ISTHMUS_RETURN_IF_ERROR(
        Set(plan.operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(args.fast_sums ? 1 : 0)));
    ISTHMUS_RETURN_IF_ERROR(SetScales(plan.operation, args));
    ISTHMUS_ASSIGN_OR_RETURN(plan.a, MakeLayout(args.a));
    ISTHMUS_ASSIGN_OR_RETURN(plan.b, MakeLayout(args.b));
    ISTHMUS_ASSIGN_OR_RETURN(plan.c, MakeLayout(args.c));

    ISTHMUS_ASSIGN_OR_RETURN(const Preference preference, MakePreference(args.a, args.b, args.c));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = Lt().propose(handle_.get(), plan.operation.get(), plan.b.get(), plan.a.get(),
                                               plan.c.get(), plan.c.get(), preference.get(), 1, &result, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
      return absl::UnimplementedError(
          absl::StrCat("cuBLASLt has no algorithm for ", args.c.Describe(), " = ", args.a.Describe(), " · ",
                       args.b.Describe(), "ᵀ: ", Lt().status_text(status), "; set precision.fp8_layers to false"));
    }
    plan.algorithm = result.algo;
    return plan;
  }

  Handle handle_;
  std::map<Key, Fp8Plan> plans_;
};

}  // namespace

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, const Context& context) {
  if (!DoesFp8(context.major, context.minor)) {
    return absl::UnimplementedError(absl::StrCat("Fp8Matmul: on a GPU of compute capability ", context.major, ".",
                                                 context.minor, "; needs 8.9 or 9.0 and later"));
  }
  if (args.c.size() == 0) return absl::OkStatus();
  if (args.a.columns == 0) return args.accumulate ? absl::OkStatus() : SetZero({.x = args.c}, context);
  return context.Service<Fp8Products>().Multiply(args, context);
}

}  // namespace isthmus::cuda
