// In place of ops/cuda/fp8_matmul.cc, which needs cuBLASLt: the CPU's product on device memory.
#include "ops/cpu/kernels.h"
#include "ops/cuda/kernels.h"
#include "tests/cuda_on_cpu/device_memory.h"

namespace isthmus::cuda {

int64_t Fp8MatmulWorkspaceBytes(int64_t m, int64_t n, int64_t k) { return cpu::Fp8MatmulWorkspaceBytes(m, n, k); }

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, const Context&) {
  const cuda_on_cpu::DeviceMemoryAccess access;
  return cpu::Fp8Matmul(args);
}

}  // namespace isthmus::cuda
