// The CUDA implementations of the operators of ops/*.h, whose headers are their contracts; their arguments have been
// checked. Only the dispatch names them. They are asynchronous: started on the context's stream.
#ifndef ISTHMUS_OPS_CUDA_KERNELS_H_
#define ISTHMUS_OPS_CUDA_KERNELS_H_

#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/fp8_matmul.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "ops/matmul_algorithms.h"
#include "ops/quantize.h"
#include "ops/reductions.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/split.h"
#include "ops/swiglu.h"

namespace isthmus::cuda {

struct Context;

absl::Status Matmul(const MatmulArgs& args, const Context& context);
absl::Status Fp8Matmul(const Fp8MatmulArgs& args, const Context& context);
absl::Status Quantize(const QuantizeArgs& args, const Context& context);
absl::Status Gram(const GramArgs& args, const Context& context);
absl::Status AttentionForward(const AttentionForwardArgs& args, const Context& context);
absl::Status AttentionBackward(const AttentionBackwardArgs& args, const Context& context);
absl::Status RmsNormForward(const RmsNormForwardArgs& args, const Context& context);
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, const Context& context);
absl::Status Rope(const RopeArgs& args, const Context& context);
absl::Status Split(const SplitArgs& args, const Context& context);
absl::Status SwigluForward(const SwigluForwardArgs& args, const Context& context);
absl::Status SwigluBackward(const SwigluBackwardArgs& args, const Context& context);
absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, const Context& context);
absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, const Context& context);
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, const Context& context);
absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, const Context& context);
absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, const Context& context);
absl::Status AdamW(const AdamWArgs& args, const Context& context);
absl::Status Add(const Tensor& x, const Tensor& y, const Context& context);
absl::Status SubtractFrom(const Tensor& x, const Tensor& y, const Context& context);
absl::Status Cast(const Tensor& x, const Tensor& y, const Context& context);
absl::Status SetZero(const Tensor& x, const Context& context);
absl::Status AddSum(const Tensor& x, const Tensor& total, const Context& context);
absl::Status AddSumOfSquares(const Tensor& x, const Tensor& total, const Context& context);
absl::Status RowDots(const RowDotsArgs& args, const Context& context);
absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, const Context& context);
absl::Status AddUnitRows(const AddUnitRowsArgs& args, const Context& context);

// Of the libraries, as 10000 · major + 100 · minor + patch; 0 in a build without.
int64_t CublasLtVersionNumber();
int64_t CudnnVersionNumber();

void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, const Context& context);
MatmulAlgorithms MatmulAlgorithmsOf(const Context& context);

// y [N, D] fp64 += x [N, D] fp32.
absl::Status AddWidened(const Tensor& x, const Tensor& y, const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_KERNELS_H_
