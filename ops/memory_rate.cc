#include "ops/memory_rate.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "runtime/arena.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<double> MeasureMemoryRate(Stream& stream) {
  constexpr int64_t kElements = int64_t{1} << 24;
  constexpr int kCalls = 5;
  const int64_t bytes = kElements * SizeOf(DType::kFloat32);
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate("memory rate", 2 * bytes, stream));
  const Tensor x = arena.At(0, DType::kFloat32, 1, kElements), y = arena.At(bytes, DType::kFloat32, 1, kElements);
  absl::Duration best = absl::InfiniteDuration();
  for (int call = 0; call < kCalls; ++call) {
    const absl::Duration start = MonotonicNow();
    ISTHMUS_RETURN_IF_ERROR(Add({.x = x, .y = y}, stream));
    ISTHMUS_RETURN_IF_ERROR(stream.Synchronize());
    best = std::min(best, MonotonicNow() - start);
  }
  return 3.0 * static_cast<double>(bytes) / absl::ToDoubleSeconds(best);
}

}  // namespace isthmus
