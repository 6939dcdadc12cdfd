// The CPU implementations of the operators of ops/*.h, whose headers are their contracts; their
// arguments have been checked. Only the dispatch names them.
#ifndef ISTHMUS_OPS_CPU_KERNELS_H_
#define ISTHMUS_OPS_CPU_KERNELS_H_

#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/fp8_matmul.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "ops/quantize.h"
#include "ops/reductions.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/split.h"
#include "ops/swiglu.h"

namespace isthmus::cpu {

absl::Status Matmul(const MatmulArgs& args);
absl::Status Fp8Matmul(const Fp8MatmulArgs& args);
int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k);
absl::Status Quantize(const QuantizeArgs& args);
absl::Status Gram(const GramArgs& args);
absl::Status AttentionForward(const AttentionForwardArgs& args);
absl::Status AttentionBackward(const AttentionBackwardArgs& args);
absl::Status RmsNormForward(const RmsNormForwardArgs& args);
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args);
absl::Status Rope(const RopeArgs& args);
absl::Status Split(const SplitArgs& args);
absl::Status SwigluForward(const SwigluForwardArgs& args);
absl::Status SwigluBackward(const SwigluBackwardArgs& args);
absl::Status EmbeddingForward(const EmbeddingForwardArgs& args);
absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args);
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args);
absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args);
absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args);
absl::Status AdamW(const AdamWArgs& args);
int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype);
absl::Status Add(const Tensor& x, const Tensor& y);
absl::Status SubtractFrom(const Tensor& x, const Tensor& y);
absl::Status Cast(const Tensor& x, const Tensor& y);
absl::Status SetZero(const Tensor& x);
absl::Status AddSum(const Tensor& x, const Tensor& total);
absl::Status AddSumOfSquares(const Tensor& x, const Tensor& total);
absl::Status RowDots(const RowDotsArgs& args);
absl::Status AddColumnSquares(const AddColumnSquaresArgs& args);
absl::Status AddUnitRows(const AddUnitRowsArgs& args);

}  // namespace isthmus::cpu

#endif  // ISTHMUS_OPS_CPU_KERNELS_H_
