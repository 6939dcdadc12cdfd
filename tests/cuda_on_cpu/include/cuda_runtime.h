// As much of the CUDA runtime as the project's kernels use, on the CPU. The host's compiler compiles the same sources,
// which run block after block with one fiber per thread. It shows wrong indices, missing barriers, and lanes that leave
// a warp's collective. It also shows host code that touches device memory, and work that can't be captured in a graph.
// It says nothing about speed, and takes no test's place on a GPU.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_RUNTIME_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_RUNTIME_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block runs at a time.
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// The indices and sizes of the running fiber.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotReady = 600,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorCapturedEvent = 907,
  cudaErrorUnknown = 999,
};
struct cudaFakeStream;
using cudaStream_t = cudaFakeStream*;

namespace isthmus::cuda_on_cpu {

// Waits for all threads of the block.
void BlockBarrier();
// Gives `value` to the warp. Once all 32 lanes did so, it returns the 32 values, which are valid until the next call
// but one.
const uint64_t* WarpExchange(uint64_t value);
int Lane();
unsigned char* DynamicSharedMemory();
// Runs `thread` as every thread of the grid.
void Run(const dim3& blocks, const dim3& threads, size_t shared_bytes, const std::function<void()>& thread);

// Runs the work. While the stream is captured it notes the work for the graph instead.
cudaError_t Give(cudaStream_t stream, std::function<cudaError_t()> work);

template <typename T>
T Shuffle(T value, int lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = WarpExchange(bits)[lane & 31];
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace isthmus::cuda_on_cpu

inline void __syncthreads() { isthmus::cuda_on_cpu::BlockBarrier(); }
inline void __syncwarp() { isthmus::cuda_on_cpu::WarpExchange(0); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return isthmus::cuda_on_cpu::Shuffle(value, isthmus::cuda_on_cpu::Lane() ^ mask);
}
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return isthmus::cuda_on_cpu::Shuffle(value, lane);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  const uint64_t* votes = isthmus::cuda_on_cpu::WarpExchange(predicate ? 1 : 0);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane) result |= static_cast<unsigned>(votes[lane]) << lane;
  return result;
}

// These are the host's calls.
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
struct cudaFakeEvent;
using cudaEvent_t = cudaFakeEvent*;
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2;
inline constexpr unsigned cudaEventRecordDefault = 0, cudaEventRecordExternal = 1;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
struct cudaFakeGraph;
using cudaGraph_t = cudaFakeGraph*;
struct cudaFakeGraphExec;
using cudaGraphExec_t = cudaFakeGraphExec*;

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceCanAccessPeer(int* can, int a, int b);
cudaError_t cudaSetDevice(int ordinal);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal);
cudaError_t cudaDeviceGetPCIBusId(char* bus_id, int length, int ordinal);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
// The host can touch device memory only through copies; see device_memory.cc.
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemset(void* memory, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemset2DAsync(void* memory, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
// Calls that a capture forbids on a device fail here too, and spoil the capture; see stream.cc.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*)(Parameters...), cudaFuncAttribute, int) {
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  // A launch copies its arguments.
  return isthmus::cuda_on_cpu::Give(config->stream,
                                    [shape = *config, kernel, values = std::tuple<Parameters...>(arguments...)] {
                                      isthmus::cuda_on_cpu::Run(shape.gridDim, shape.blockDim, shape.dynamicSmemBytes,
                                                                [&] { std::apply(kernel, values); });
                                      return cudaSuccess;
                                    });
}

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_CUDA_RUNTIME_H_
