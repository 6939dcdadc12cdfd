// The one place where the device of the stream chooses an operator's implementation, after the arguments have been
// checked. In a build without CUDA the compiler drops the other branch, so that nothing of ops/cuda is needed.
#include <utility>

#include "ops/check_arguments.h"
#include "ops/cpu/kernels.h"
#include "ops/cuda/attention_workspace.h"
#include "ops/cuda/kernels.h"
#include "runtime/backends.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status Matmul(const MatmulArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Matmul(args, stream.cuda());
  }
  return cpu::Matmul(args);
}

void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, Stream& stream) {
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) cuda::SetMatmulAlgorithms(std::move(algorithms), search, stream.cuda());
  }
}

MatmulAlgorithms MatmulAlgorithmsOf(const Stream& stream) {
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::MatmulAlgorithmsOf(stream.cuda());
  }
  return {};
}

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Fp8Matmul(args, stream.cuda());
  }
  return cpu::Fp8Matmul(args);
}

absl::Status Quantize(const QuantizeArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Quantize(args, stream.cuda());
  }
  return cpu::Quantize(args);
}

absl::Status Gram(const GramArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Gram(args, stream.cuda());
  }
  return cpu::Gram(args);
}

absl::Status AttentionForward(const AttentionForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AttentionForward(args, stream.cuda());
  }
  return cpu::AttentionForward(args);
}

absl::Status AttentionBackward(const AttentionBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AttentionBackward(args, stream.cuda());
  }
  return cpu::AttentionBackward(args);
}

absl::Status RmsNormForward(const RmsNormForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::RmsNormForward(args, stream.cuda());
  }
  return cpu::RmsNormForward(args);
}

absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::RmsNormBackward(args, stream.cuda());
  }
  return cpu::RmsNormBackward(args);
}

absl::Status Rope(const RopeArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Rope(args, stream.cuda());
  }
  return cpu::Rope(args);
}

absl::Status Split(const SplitArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Split(args, stream.cuda());
  }
  return cpu::Split(args);
}

absl::Status SwigluForward(const SwigluForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::SwigluForward(args, stream.cuda());
  }
  return cpu::SwigluForward(args);
}

absl::Status SwigluBackward(const SwigluBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::SwigluBackward(args, stream.cuda());
  }
  return cpu::SwigluBackward(args);
}

absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::EmbeddingForward(args, stream.cuda());
  }
  return cpu::EmbeddingForward(args);
}

absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::EmbeddingBackward(args, stream.cuda());
  }
  return cpu::EmbeddingBackward(args);
}

absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::CrossEntropyStatistics(args, stream.cuda());
  }
  return cpu::CrossEntropyStatistics(args);
}

absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::CrossEntropyCombine(args, stream.cuda());
  }
  return cpu::CrossEntropyCombine(args);
}

absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::CrossEntropyGradient(args, stream.cuda());
  }
  return cpu::CrossEntropyGradient(args);
}

absl::Status AdamW(const AdamWArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AdamW(args, stream.cuda());
  }
  return cpu::AdamW(args);
}

absl::Status Add(const Tensor& x, const Tensor& y, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckAdd(x, y, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Add(x, y, stream.cuda());
  }
  return cpu::Add(x, y);
}

absl::Status SubtractFrom(const Tensor& x, const Tensor& y, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSubtractFrom(x, y, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::SubtractFrom(x, y, stream.cuda());
  }
  return cpu::SubtractFrom(x, y);
}

absl::Status Cast(const Tensor& x, const Tensor& y, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckCast(x, y));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::Cast(x, y, stream.cuda());
  }
  return cpu::Cast(x, y);
}

absl::Status SetZero(const Tensor& x, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSetZero(x));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::SetZero(x, stream.cuda());
  }
  return cpu::SetZero(x);
}

absl::Status AddSum(const Tensor& x, const Tensor& total, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSum("AddSum", x, total));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AddSum(x, total, stream.cuda());
  }
  return cpu::AddSum(x, total);
}

absl::Status AddSumOfSquares(const Tensor& x, const Tensor& total, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSum("AddSumOfSquares", x, total));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AddSumOfSquares(x, total, stream.cuda());
  }
  return cpu::AddSumOfSquares(x, total);
}

absl::Status RowDots(const RowDotsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::RowDots(args, stream.cuda());
  }
  return cpu::RowDots(args);
}

absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AddColumnSquares(args, stream.cuda());
  }
  return cpu::AddColumnSquares(args);
}

absl::Status AddUnitRows(const AddUnitRowsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::AddUnitRows(args, stream.cuda());
  }
  return cpu::AddUnitRows(args);
}

int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device) {
  return device == Device::kCuda ? cuda::AttentionWorkspaceBytes(shape, dtype)
                                 : cpu::AttentionWorkspaceBytes(shape, dtype);
}

int64_t LeastAttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device) {
  return device == Device::kCuda ? cuda::FlashAttentionWorkspaceBytes(shape)
                                 : cpu::AttentionWorkspaceBytes(shape, dtype);
}

int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k, Device device) {
  // cuBLASLt has the stream's scratch.
  return device == Device::kCuda ? 0 : cpu::Fp8MatmulWorkspaceBytes(m, n, k);
}

}  // namespace isthmus
