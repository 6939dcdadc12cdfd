#include "ops/cuda/matmul_choices.h"

#include <utility>

#include "ops/cuda/library_versions.h"
#include "runtime/cuda/backend.h"
#include "runtime/cuda/context.h"

namespace isthmus::cuda {

MatmulChoices& MatmulChoicesOf(const Context& context) { return context.Service<MatmulChoices>(); }

std::string KeyOf(const MatmulArgs& args, const Context& context) {
  MatmulChoices& choices = MatmulChoicesOf(context);
  if (choices.device.empty()) {
    const auto device = DeviceOf(context);
    choices.device = device.ok() ? device->name : "unknown GPU";
  }
  return MatmulKey(args, choices.device, CublasLtVersionNumber());
}

void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, const Context& context) {
  MatmulChoices& choices = MatmulChoicesOf(context);
  choices.known = std::move(algorithms);
  choices.search = search;
  ++choices.generation;
}

MatmulAlgorithms MatmulAlgorithmsOf(const Context& context) { return MatmulChoicesOf(context).known; }

}  // namespace isthmus::cuda
