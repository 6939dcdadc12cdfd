#include "runtime/cuda/trace.h"

#include <nvtx3/nvToolsExt.h>

#include <array>
#include <cstdio>

namespace isthmus::cuda {

void PushRange(const char* name, int64_t index) {
  if (index < 0) {
    nvtxRangePushA(name);
    return;
  }
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s %lld", name, static_cast<long long>(index));
  nvtxRangePushA(text.data());
}

void PopRange() { nvtxRangePop(); }

}  // namespace isthmus::cuda
