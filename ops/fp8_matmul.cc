#include "ops/fp8_matmul.h"

#include <absl/strings/str_cat.h>

#include <cstdint>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const Fp8MatmulArgs& args, Device device) {
  constexpr char kOp[] = "Fp8Matmul";
  const int64_t m = args.a.rows, n = args.b.rows, k = args.a.columns;
  if (!IsFloat8(args.a.dtype) || !IsFloat8(args.b.dtype) ||
      (args.a.dtype == DType::kFloat8E5M2 && args.b.dtype == DType::kFloat8E5M2)) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": a is ", args.a.Describe(), ", b is ", args.b.Describe(),
                                                   "; need fp8_e4m3 or fp8_e5m2, one of them fp8_e4m3"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "a", args.a, args.a.dtype, m, k));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "b", args.b, args.b.dtype, n, k));
  const bool rounded = args.c.dtype == DType::kBFloat16 && !args.accumulate;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "c", args.c, rounded ? DType::kBFloat16 : DType::kFloat32, m, n));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "a_inverse", args.a_inverse, DType::kFloat32, 1, 1));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "b_inverse", args.b_inverse, DType::kFloat32, 1, 1));
  for (const ConstTensor& tensor : {args.a, args.b, ConstTensor(args.c)}) {
    const int64_t row_bytes = tensor.row_stride * SizeOf(tensor.dtype);
    if (tensor.rows % kFp8Multiple == 0 && tensor.columns % kFp8Multiple == 0 && row_bytes % 16 == 0 &&
        reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": ", tensor.Describe(), " with rows of ", row_bytes,
                                                   " bytes; needs multiples of 16 in both directions, rows that begin "
                                                   "at multiples of 16 bytes"));
  }
  if (args.workspace.bytes() < Fp8MatmulWorkspaceBytes(m, n, k, device)) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": workspace has ", args.workspace.bytes(), " bytes; needs ",
                                                   Fp8MatmulWorkspaceBytes(m, n, k, device)));
  }
  return absl::OkStatus();
}

}  // namespace

OperatorCost Fp8MatmulArgs::Cost() const {
  OperatorCost cost = ProductCost("8-bit product", a, b, c, a.columns, accumulate);
  cost.kind = OperatorCost::Kind::kFp8Product;
  return cost;
}

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::Fp8Matmul, cuda::Fp8Matmul>(args, stream);
}

int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k, Device device) {
  // cuBLASLt uses the stream's scratch.
  return device == Device::kCuda ? 0 : cpu::Fp8MatmulWorkspaceBytes(m, n, k);
}

}  // namespace isthmus
