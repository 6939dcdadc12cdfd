#include "ops/cuda/launch.cuh"
#include "tools/bench/triad.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 512;

struct alignas(16) Four {
  float values[4];
};

__global__ void __launch_bounds__(kThreads)
    TriadKernel(Four* a, const Four* b, const Four* c, float scale, int64_t fours) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= fours) return;
  const Four x = b[i], y = c[i];
  Four sum;
#pragma unroll
  for (int k = 0; k < 4; ++k) sum.values[k] = x.values[k] + scale * y.values[k];
  a[i] = sum;
}

}  // namespace

absl::Status Triad(const Tensor& a, const Tensor& b, const Tensor& c, float scale, const Stream& stream) {
  const int64_t fours = a.size() / 4;
  return Launch("triad", TriadKernel, {.blocks = dim3(BlocksFor(fours, kThreads)), .threads = dim3(kThreads)},
                stream.cuda(), a.As<Four>(), b.As<const Four>(), c.As<const Four>(), scale, fours);
}

}  // namespace isthmus::cuda
