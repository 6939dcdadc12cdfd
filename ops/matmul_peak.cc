#include "ops/matmul_peak.h"

#include <absl/time/clock.h>

#include <algorithm>

#include "ops/matmul.h"
#include "runtime/arena.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<double> MeasureMatmulPeak(DType dtype, absl::Duration budget, Stream& stream) {
  constexpr int64_t kSize = 1024;
  const auto place = [dtype](TensorPlacer& placer) {
    return MatmulArgs{.a = placer.Place("a", dtype, kSize, kSize),
                      .b = placer.Place("b", dtype, kSize, kSize),
                      .c = placer.Place("c", dtype, kSize, kSize),
                      .transpose_b = true};
  };
  TensorPlacer planner;
  place(planner);
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena,
                           Arena::Allocate("matrix product peak", planner.layout().bytes(), stream.device()));
  TensorPlacer placer(&arena);
  const MatmulArgs product = place(placer);
  const absl::Time end = absl::Now() + budget;
  absl::Duration best = absl::InfiniteDuration();
  do {
    const absl::Time start = absl::Now();
    ISTHMUS_RETURN_IF_ERROR(Matmul(product, stream));
    best = std::min(best, absl::Now() - start);
  } while (absl::Now() < end);
  return 2.0 * kSize * kSize * kSize / absl::ToDoubleSeconds(best);
}

}  // namespace isthmus
