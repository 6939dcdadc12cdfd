#include "ops/cuda/matmul_search.h"

#include <absl/strings/str_cat.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kRepetitions = 4;

struct EventPair {
  cudaEvent_t begin = nullptr, end = nullptr;

  EventPair() = default;
  EventPair(const EventPair&) = delete;
  EventPair& operator=(const EventPair&) = delete;
  ~EventPair() {
    if (begin != nullptr) cudaEventDestroy(begin);
    if (end != nullptr) cudaEventDestroy(end);
  }

  absl::StatusOr<double> Measure(const std::function<absl::Status()>& run, cudaStream_t stream) const {
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventRecord(begin, stream), "cudaEventRecord"));
    ISTHMUS_RETURN_IF_ERROR(run());
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventRecord(end, stream), "cudaEventRecord"));
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventSynchronize(end), "cudaEventSynchronize"));
    float milliseconds = 0;
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime"));
    return static_cast<double>(milliseconds) / 1e3;
  }
};

}  // namespace

absl::StatusOr<double> SecondsOnStream(const std::function<absl::Status()>& run, const Context& context) {
  EventPair events;
  for (cudaEvent_t* event : {&events.begin, &events.end}) {
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventCreateWithFlags(event, cudaEventDefault), "cudaEventCreate"));
  }
  ISTHMUS_RETURN_IF_ERROR(run());
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    ISTHMUS_ASSIGN_OR_RETURN(const double seconds, events.Measure(run, context.stream));
    best = std::min(best, seconds);
  }
  return best;
}

SavedTensor::~SavedTensor() {
  if (copy_ != nullptr) cudaFree(copy_);
}

absl::Status SavedTensor::Save(const Tensor& tensor) {
  tensor_ = tensor;
  if (cudaMalloc(&copy_, static_cast<size_t>(tensor.bytes())) != cudaSuccess) {
    copy_ = nullptr;
    // The runtime keeps the last error; the next call must not find this one.
    cudaGetLastError();
    return absl::ResourceExhaustedError(absl::StrCat("no room for a copy of ", tensor.Describe()));
  }
  const auto width = static_cast<size_t>(tensor.columns * SizeOf(tensor.dtype));
  return Check(
      cudaMemcpy2DAsync(copy_, width, tensor.data, static_cast<size_t>(tensor.row_stride * SizeOf(tensor.dtype)), width,
                        static_cast<size_t>(tensor.rows), cudaMemcpyDeviceToDevice, context_.stream),
      "copy of a product's result");
}

absl::Status SavedTensor::Restore() {
  const auto width = static_cast<size_t>(tensor_.columns * SizeOf(tensor_.dtype));
  ISTHMUS_RETURN_IF_ERROR(Check(
      cudaMemcpy2DAsync(tensor_.data, static_cast<size_t>(tensor_.row_stride * SizeOf(tensor_.dtype)), copy_, width,
                        width, static_cast<size_t>(tensor_.rows), cudaMemcpyDeviceToDevice, context_.stream),
      "copy of a product's result"));
  return Check(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize");
}

}  // namespace isthmus::cuda
