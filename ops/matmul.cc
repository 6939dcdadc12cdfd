#include "ops/matmul.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const MatmulArgs& args) {
  const MatmulSizes sizes = SizesOf(args);
  const DType type = args.a.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Matmul", "a", args.a));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Matmul", "b", args.b, type, args.transpose_b ? sizes.n : sizes.k,
                                      args.transpose_b ? sizes.k : sizes.n));
  const bool widened = type == DType::kBFloat16 && (args.c.dtype == DType::kFloat32 || args.accumulate);
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Matmul", "c", args.c, widened ? DType::kFloat32 : type, sizes.m, sizes.n));
  return absl::OkStatus();
}

}  // namespace

OperatorCost MatmulArgs::Cost() const { return ProductCost("product", a, b, c, SizesOf(*this).k, accumulate); }

absl::Status Matmul(const MatmulArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::Matmul, cuda::Matmul>(args, stream);
}

}  // namespace isthmus
