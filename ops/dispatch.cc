// The one place where the device of the stream chooses an operator's implementation.
#include "ops/cpu/kernels.h"

namespace isthmus {

absl::Status Matmul(const MatmulArgs& args, Stream&) { return cpu::Matmul(args); }
absl::Status Gram(const GramArgs& args, Stream&) { return cpu::Gram(args); }
absl::Status AttentionForward(const AttentionForwardArgs& args, Stream&) { return cpu::AttentionForward(args); }
absl::Status AttentionBackward(const AttentionBackwardArgs& args, Stream&) { return cpu::AttentionBackward(args); }
absl::Status RmsNormForward(const RmsNormForwardArgs& args, Stream&) { return cpu::RmsNormForward(args); }
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, Stream&) { return cpu::RmsNormBackward(args); }
absl::Status Rope(const RopeArgs& args, Stream&) { return cpu::Rope(args); }
absl::Status SwigluForward(const SwigluForwardArgs& args, Stream&) { return cpu::SwigluForward(args); }
absl::Status SwigluBackward(const SwigluBackwardArgs& args, Stream&) { return cpu::SwigluBackward(args); }
absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, Stream&) { return cpu::EmbeddingForward(args); }
absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, Stream&) { return cpu::EmbeddingBackward(args); }
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, Stream&) {
  return cpu::CrossEntropyStatistics(args);
}
absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, Stream&) {
  return cpu::CrossEntropyCombine(args);
}
absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, Stream&) {
  return cpu::CrossEntropyGradient(args);
}
absl::Status AdamW(const AdamWArgs& args, Stream&) { return cpu::AdamW(args); }
int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device) {
  return cpu::AttentionWorkspaceBytes(shape, dtype);
}
absl::Status Add(const Tensor& x, const Tensor& y, Stream&) { return cpu::Add(x, y); }
absl::Status Cast(const Tensor& x, const Tensor& y, Stream&) { return cpu::Cast(x, y); }
absl::Status SetZero(const Tensor& x, Stream&) { return cpu::SetZero(x); }
absl::StatusOr<double> SumOfSquares(const Tensor& x, Stream&) { return cpu::SumOfSquares(x); }
absl::StatusOr<double> Sum(const Tensor& x, Stream&) { return cpu::Sum(x); }

}  // namespace isthmus
