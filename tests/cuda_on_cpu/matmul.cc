// Stands in for ops/cuda/matmul.cc, which needs cuBLASLt. It is the CPU's product on device memory.
#include "ops/matmul.h"

#include "ops/cuda/library_versions.h"
#include "ops/cuda/matmul_choices.h"
#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "tests/cuda_on_cpu/device_memory.h"

namespace isthmus::cuda {

int64_t CublasLtVersionNumber() { return 0; }

absl::Status Matmul(const MatmulArgs& args, const Context& context) {
  // There is nothing to measure. A search finds one made-up algorithm for each product that would be searched for.
  if (MatmulChoices& choices = MatmulChoicesOf(context); choices.search && args.a.dtype != DType::kFloat64) {
    choices.known.try_emplace(KeyOf(args, context), MatmulAlgorithm{{1}, 1e-6});
  }
  const auto multiply = [args] {
    const cuda_on_cpu::DeviceMemoryAccess access;
    return cpu::Matmul(args).ok() ? cudaSuccess : cudaErrorUnknown;
  };
  return Check(cuda_on_cpu::Give(context.stream, multiply), "Matmul");
}

}  // namespace isthmus::cuda
