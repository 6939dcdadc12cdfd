// The checks of the operators' arguments, the same for every device: what ops/*.h promise as InvalidArgument. The
// implementations below the dispatch rely on them.
#ifndef ISTHMUS_OPS_CHECK_ARGUMENTS_H_
#define ISTHMUS_OPS_CHECK_ARGUMENTS_H_

#include <absl/status/status.h>

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

namespace isthmus {

absl::Status CheckArguments(const AdamWArgs& args, Device device);
absl::Status CheckArguments(const AddColumnSquaresArgs& args, Device device);
absl::Status CheckArguments(const AddUnitRowsArgs& args, Device device);
absl::Status CheckArguments(const AttentionBackwardArgs& args, Device device);
absl::Status CheckArguments(const AttentionForwardArgs& args, Device device);
absl::Status CheckArguments(const CrossEntropyCombineArgs& args, Device device);
absl::Status CheckArguments(const CrossEntropyGradientArgs& args, Device device);
absl::Status CheckArguments(const CrossEntropyStatisticsArgs& args, Device device);
absl::Status CheckArguments(const EmbeddingBackwardArgs& args, Device device);
absl::Status CheckArguments(const EmbeddingForwardArgs& args, Device device);
absl::Status CheckArguments(const Fp8MatmulArgs& args, Device device);
absl::Status CheckArguments(const GramArgs& args, Device device);
absl::Status CheckArguments(const MatmulArgs& args, Device device);
absl::Status CheckArguments(const QuantizeArgs& args, Device device);
absl::Status CheckArguments(const RmsNormBackwardArgs& args, Device device);
absl::Status CheckArguments(const RmsNormForwardArgs& args, Device device);
absl::Status CheckArguments(const RopeArgs& args, Device device);
absl::Status CheckArguments(const RowDotsArgs& args, Device device);
absl::Status CheckArguments(const SplitArgs& args, Device device);
absl::Status CheckArguments(const SwigluBackwardArgs& args, Device device);
absl::Status CheckArguments(const SwigluForwardArgs& args, Device device);
absl::Status CheckAdd(const Tensor& x, const Tensor& y, Device device);
absl::Status CheckSubtractFrom(const Tensor& x, const Tensor& y, Device device);
absl::Status CheckCast(const Tensor& x, const Tensor& y);
absl::Status CheckSetZero(const Tensor& x);
absl::Status CheckSum(const char* op, const Tensor& x, const Tensor& total);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CHECK_ARGUMENTS_H_
