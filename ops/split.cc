#include "ops/split.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kParts = 3;
// Copies of the high, the middle and the low part of b. They say which of a's parts each is multiplied with.
constexpr int64_t kCopies[kParts] = {3, 2, 1};
constexpr int64_t kFirstCopy[kParts] = {0, 3, 5};
constexpr int64_t kRightParts = 6;

absl::Status CheckArguments(const SplitArgs& args) {
  const ConstTensor& x = args.x;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "x", x, DType::kFloat32, x.rows, x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "high", args.high, DType::kBFloat16, x.rows, x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "middle", args.middle, DType::kBFloat16, x.rows, x.columns));
  return CheckTensor("Split", "low", args.low, DType::kBFloat16, x.rows, x.columns);
}

}  // namespace

OperatorCost SplitArgs::Cost() const { return MemoryPass("split", {x, high, middle, low}); }

absl::Status Split(const SplitArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::Split, cuda::Split>(args, stream);
}

absl::Status SplitLeft(const SplitLeftArgs& args, Stream& stream) {
  if (args.parts.rows != args.a.rows || args.parts.columns != kParts * args.a.columns) {
    return absl::InvalidArgumentError(absl::StrCat("SplitLeft: parts are ", args.parts.Describe(), "; need bf16 [",
                                                   args.a.rows, ", ", kParts * args.a.columns, "]"));
  }
  const auto part = [&](int64_t i) { return args.parts.ColumnSlice(i * args.a.columns, args.a.columns); };
  return Split({.x = args.a, .high = part(0), .middle = part(1), .low = part(2)}, stream);
}

absl::Status SplitRight(const SplitRightArgs& args, Stream& stream) {
  if (args.parts.rows != kRightParts * args.b.rows || args.parts.columns != args.b.columns) {
    return absl::InvalidArgumentError(absl::StrCat("SplitRight: parts are ", args.parts.Describe(), "; need bf16 [",
                                                   kRightParts * args.b.rows, ", ", args.b.columns, "]"));
  }
  const auto part = [&](int64_t i) { return args.parts.RowSlice(i * args.b.rows, args.b.rows); };
  ISTHMUS_RETURN_IF_ERROR(Split(
      {.x = args.b, .high = part(kFirstCopy[0]), .middle = part(kFirstCopy[1]), .low = part(kFirstCopy[2])}, stream));
  for (int64_t i = 0; i < kParts; ++i) {
    for (int64_t copy = 1; copy < kCopies[i]; ++copy) {
      ISTHMUS_RETURN_IF_ERROR(Cast({.x = part(kFirstCopy[i]), .y = part(kFirstCopy[i] + copy)}, stream));
    }
  }
  return absl::OkStatus();
}

absl::Status SplitMatmul(const SplitMatmulArgs& args, Stream& stream) {
  const int64_t depth = args.b.rows / kRightParts;
  if (args.b.rows % kRightParts != 0 || (args.a.columns != depth && args.a.columns != kParts * depth)) {
    return absl::InvalidArgumentError(
        absl::StrCat("SplitMatmul: a is ", args.a.Describe(), ", b ", args.b.Describe(),
                     "; needs b of six parts as many rows as a or each of its three parts "
                     "has columns"));
  }
  // The small terms are added first.
  for (int64_t i = kParts - 1; i >= 0; --i) {
    const int64_t taken = std::min(args.a.columns, kCopies[i] * depth);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = args.a.ColumnSlice(0, taken),
                                    .b = args.b.RowSlice(kFirstCopy[i] * depth, taken),
                                    .c = args.c,
                                    .accumulate = i + 1 < kParts},
                                   stream));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
