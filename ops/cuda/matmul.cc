// Matrix products by cuBLASLt.
#include "ops/matmul.h"

#include <absl/strings/str_cat.h>
#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ops/cuda/cublaslt.h"
#include "ops/cuda/library_versions.h"
#include "ops/cuda/matmul_algorithms.h"
#include "ops/cuda/matmul_choices.h"
#include "ops/cuda/matmul_search.h"
#include "ops/elementwise.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(MatmulAlgorithm::words));

// A product as prepared for its shape.
struct Plan {
  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

// The products of one stream. A plan is made once per shape, alignment and type, and again whenever the choices are set
// anew.
class Products {
 public:
  absl::Status Multiply(const MatmulArgs& args, const Context& context) {
    if (handle_ == nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(handle_, MakeHandle());
    }
    MatmulChoices& choices = MatmulChoicesOf(context);
    if (generation_ != choices.generation) {
      plans_.clear();
      generation_ = choices.generation;
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
                     RowAlignment(args.a),
                     RowAlignment(args.b),
                     RowAlignment(args.c)};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      ISTHMUS_ASSIGN_OR_RETURN(Plan plan, Describe(args));
      ISTHMUS_RETURN_IF_ERROR(Choose(args, choices, plan, context));
      found = plans_.emplace(key, std::move(plan)).first;
    }
    return Run(args, found->second, found->second.algorithm, context);
  }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, bool, DType, DType, uint32_t,
                         uint32_t, uint32_t>;
  using Candidates = std::vector<cublasLtMatmulHeuristicResult_t>;
  // Number of proposals that a search tries.
  static constexpr int kCandidates = 8;

  absl::Status Run(const MatmulArgs& args, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                   const Context& context) const {
    // Factors of the product and of the old c, in the type of the sums.
    const float one = 1, old = args.accumulate ? 1 : 0;
    const double wide_one = one, wide_old = old;
    const bool wide = args.a.dtype == DType::kFloat64;
    const void *const factor = wide ? static_cast<const void*>(&wide_one) : &one, *const old_factor =
                                                                                      wide ? static_cast<const void*>(
                                                                                                 &wide_old)
                                                                                           : &old;
    // By columns cᵀ = op(b)ᵀ op(a)ᵀ: b comes first.
    return CheckLt(
        Lt().multiply(handle_.get(), plan.operation.get(), factor, args.b.data, plan.b.get(), args.a.data, plan.a.get(),
                      old_factor, args.c.data, plan.c.get(), args.c.data, plan.c.get(), &algorithm, context.scratch,
                      static_cast<size_t>(Context::kScratchBytes), context.stream),
        "cublasLtMatmul");
  }

  absl::StatusOr<Plan> Describe(const MatmulArgs& args) const {
    Plan plan;
    const auto operand = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    ISTHMUS_ASSIGN_OR_RETURN(plan.operation, MakeOperation(operand(args.transpose_b), operand(args.transpose_a),
                                                           AccumulationType(args.a.dtype)));
    ISTHMUS_ASSIGN_OR_RETURN(plan.a, MakeLayout(args.a));
    ISTHMUS_ASSIGN_OR_RETURN(plan.b, MakeLayout(args.b));
    ISTHMUS_ASSIGN_OR_RETURN(plan.c, MakeLayout(args.c));
    return plan;
  }

  // The library's proposals, best guess first. There is at least one.
  absl::StatusOr<Candidates> Propose(const MatmulArgs& args, const Plan& plan, int count) const {
    ISTHMUS_ASSIGN_OR_RETURN(const Preference preference, MakePreference(args.a, args.b, args.c));
    Candidates candidates(static_cast<size_t>(count));
    int found = 0;
    const cublasStatus_t status =
        Lt().propose(handle_.get(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
                     preference.get(), count, candidates.data(), &found);
    candidates.resize(static_cast<size_t>(std::max(found, 0)));
    std::erase_if(candidates, [](const auto& candidate) { return candidate.state != CUBLAS_STATUS_SUCCESS; });
    if (status != CUBLAS_STATUS_SUCCESS || candidates.empty()) {
      return absl::UnimplementedError(absl::StrCat("cuBLASLt has no algorithm for ", args.c.Describe(), " = ",
                                                   args.a.Describe(), args.transpose_a ? "ᵀ · " : " · ",
                                                   args.b.Describe(), args.transpose_b ? "ᵀ" : "", ": ",
                                                   Lt().status_text(status)));
    }
    return candidates;
  }

  // Sets the plan's algorithm: the known one, else the fastest, else the library's first proposal.
  absl::Status Choose(const MatmulArgs& args, MatmulChoices& choices, Plan& plan, const Context& context) const {
    const std::string key = KeyOf(args, context);
    const auto known = choices.known.find(key);
    if (known != choices.known.end()) {
      std::memcpy(&plan.algorithm, known->second.words.data(), sizeof(plan.algorithm));
      if (Runs(plan)) return absl::OkStatus();
      context.Note(absl::StrCat("the stored algorithm does not run, another takes its place: ", key));
    }
    // A search is not worth it in fp64: those products are a measured step's few hundred small ones.
    const bool search = choices.search && known == choices.known.end() && args.a.dtype != DType::kFloat64;
    ISTHMUS_ASSIGN_OR_RETURN(const Candidates candidates, Propose(args, plan, search ? kCandidates : 1));
    plan.algorithm = candidates.front().algo;
    if (!search) return absl::OkStatus();
    SavedTensor saved(context);
    if (args.accumulate) {
      const absl::Status status = saved.Save(args.c);
      // Without room to try, the first proposal will do.
      if (absl::IsResourceExhausted(status)) return absl::OkStatus();
      ISTHMUS_RETURN_IF_ERROR(status);
    }
    const auto fastest = ChooseFastest(static_cast<int>(candidates.size()), [&](int i) {
      const cublasLtMatmulHeuristicResult_t& candidate = candidates[static_cast<size_t>(i)];
      return SecondsOnStream([&] { return Run(args, plan, candidate.algo, context); }, context);
    });
    if (args.accumulate) ISTHMUS_RETURN_IF_ERROR(saved.Restore());
    ISTHMUS_RETURN_IF_ERROR(fastest.status());
    plan.algorithm = candidates[static_cast<size_t>(fastest->index)].algo;
    MatmulAlgorithm& entry = choices.known[key];
    std::memcpy(entry.words.data(), &plan.algorithm, sizeof(plan.algorithm));
    entry.seconds = fastest->seconds;
    return absl::OkStatus();
  }

  // Says whether the library takes the plan's algorithm here, within the available scratch memory.
  bool Runs(const Plan& plan) const {
    cublasLtMatmulHeuristicResult_t result{};
    return Lt().check(handle_.get(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
                      &plan.algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= static_cast<size_t>(Context::kScratchBytes);
  }

  Handle handle_;
  std::map<Key, Plan> plans_;
  int64_t generation_ = 0;
};

}  // namespace

int64_t CublasLtVersionNumber() {
  const absl::StatusOr<const CublasLt*> lt = LoadCublasLt();
  return lt.ok() ? static_cast<int64_t>((*lt)->version()) : 0;
}

absl::Status Matmul(const MatmulArgs& args, const Context& context) {
  const MatmulSizes sizes = SizesOf(args);
  if (sizes.m == 0 || sizes.n == 0) return absl::OkStatus();
  if (sizes.k == 0) return args.accumulate ? absl::OkStatus() : SetZero({.x = args.c}, context);
  return context.Service<Products>().Multiply(args, context);
}

}  // namespace isthmus::cuda
