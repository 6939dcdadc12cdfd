#include "ops/matmul_peak.h"

#include <algorithm>
#include <vector>

#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/monotonic.h"
#include "runtime/phase_timer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Numbers between -1 and 1 from a linear congruential generator (Knuth's MMIX), which is cheap. Its numbers serve a
// multiplier's transistors as well as any. `staging` is fp32 of the same size on the stream's device.
absl::Status FillRandomly(const Tensor& tensor, const Tensor& staging, uint64_t seed, Stream& stream) {
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  for (float& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>(static_cast<int32_t>(seed >> 32)) / 2147483648.0f;
  }
  ISTHMUS_RETURN_IF_ERROR(
      CopyFromHost(Tensor(values.data(), DType::kFloat32, tensor.rows, tensor.columns), staging, stream));
  return Cast({.x = staging, .y = tensor}, stream);
}

}  // namespace

absl::StatusOr<double> MeasureMatmulPeak(DType dtype, absl::Duration budget, Stream& stream, int64_t size) {
  struct Matrices {
    Tensor a, b, staging;
    MatmulArgs product;
  };
  const auto place = [&](TensorPlacer& placer) {
    Matrices matrices;
    matrices.a = placer.Place("a", dtype, size, size);
    matrices.b = placer.Place("b", dtype, size, size);
    const Tensor c = placer.Place("c", dtype, size, size);
    matrices.product = {.a = matrices.a, .b = matrices.b, .c = c, .transpose_b = true};
    matrices.staging = placer.Place("staging", DType::kFloat32, size, size);
    return matrices;
  };
  TensorPlacer planner;
  place(planner);
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate("matrix product peak", planner.layout().bytes(), stream));
  TensorPlacer placer(&arena);
  const Matrices matrices = place(placer);
  ISTHMUS_RETURN_IF_ERROR(FillRandomly(matrices.a, matrices.staging, 1, stream));
  ISTHMUS_RETURN_IF_ERROR(FillRandomly(matrices.b, matrices.staging, 2, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul(matrices.product, stream));
  ISTHMUS_RETURN_IF_ERROR(stream.Synchronize());

  // A GPU runs a few products in a row, so that starting them is not part of the time.
  const int products = stream.device() == Device::kCuda ? 8 : 1;
  PhaseTimer timer(stream);
  const absl::Duration end = MonotonicNow() + budget;
  double best = 0;
  do {
    double seconds = 0;
    {
      const PhaseTimer::Scope scope(timer, "matrix product peak", seconds);
      for (int i = 0; i < products; ++i) ISTHMUS_RETURN_IF_ERROR(Matmul(matrices.product, stream));
    }
    ISTHMUS_RETURN_IF_ERROR(timer.Collect());
    const double cubed = static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size);
    best = std::max(best, 2.0 * products * cubed / seconds);
  } while (MonotonicNow() < end);
  return best;
}

}  // namespace isthmus
