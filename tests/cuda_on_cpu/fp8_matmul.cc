// Stands in for ops/cuda/fp8_matmul.cc, which needs cuBLASLt. It is the CPU's product on device memory, with a
// workspace that the GPU's does not need.
#include "ops/fp8_matmul.h"

#include <cstdint>
#include <vector>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "tests/cuda_on_cpu/device_memory.h"

namespace isthmus::cuda {

absl::Status Fp8Matmul(const Fp8MatmulArgs& args, const Context& context) {
  const auto multiply = [args] {
    const cuda_on_cpu::DeviceMemoryAccess access;
    std::vector<uint8_t> memory(
        static_cast<size_t>(cpu::Fp8MatmulWorkspaceBytes(args.a.rows, args.b.rows, args.a.columns)));
    Fp8MatmulArgs on_host = args;
    on_host.workspace = Tensor(memory.data(), DType::kUInt8, 1, static_cast<int64_t>(memory.size()));
    return cpu::Fp8Matmul(on_host).ok() ? cudaSuccess : cudaErrorUnknown;
  };
  return Check(cuda_on_cpu::Give(context.stream, multiply), "Fp8Matmul");
}

}  // namespace isthmus::cuda
