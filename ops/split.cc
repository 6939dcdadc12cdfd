#include "ops/split.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kParts = 3;
// Copies of the high, the middle and the low part of b: which of a's parts each is multiplied with.
constexpr int64_t kCopies[kParts] = {3, 2, 1};
constexpr int64_t kFirstCopy[kParts] = {0, 3, 5};
constexpr int64_t kRightParts = 6;

}  // namespace

absl::Status SplitLeft(const Tensor& a, const Tensor& parts, Stream& stream) {
  if (parts.rows != a.rows || parts.columns != kParts * a.columns) {
    return absl::InvalidArgumentError(absl::StrCat("SplitLeft: parts are ", parts.Describe(), "; need bf16 [", a.rows,
                                                   ", ", kParts * a.columns, "]"));
  }
  const auto part = [&](int64_t i) { return parts.ColumnSlice(i * a.columns, a.columns); };
  return Split({.x = a, .high = part(0), .middle = part(1), .low = part(2)}, stream);
}

absl::Status SplitRight(const Tensor& b, const Tensor& parts, Stream& stream) {
  if (parts.rows != kRightParts * b.rows || parts.columns != b.columns) {
    return absl::InvalidArgumentError(absl::StrCat("SplitRight: parts are ", parts.Describe(), "; need bf16 [",
                                                   kRightParts * b.rows, ", ", b.columns, "]"));
  }
  const auto part = [&](int64_t i) { return parts.RowSlice(i * b.rows, b.rows); };
  ISTHMUS_RETURN_IF_ERROR(
      Split({.x = b, .high = part(kFirstCopy[0]), .middle = part(kFirstCopy[1]), .low = part(kFirstCopy[2])}, stream));
  for (int64_t i = 0; i < kParts; ++i) {
    for (int64_t copy = 1; copy < kCopies[i]; ++copy) {
      ISTHMUS_RETURN_IF_ERROR(Cast(part(kFirstCopy[i]), part(kFirstCopy[i] + copy), stream));
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
  // The small terms first.
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
