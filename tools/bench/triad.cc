#include "tools/bench/triad.h"

#include <benchmark/benchmark.h>

#include <algorithm>

#include "runtime/parallel_for.h"
#include "runtime/phase_timer.h"
#include "runtime/status.h"
#include "tools/bench/filled.h"

namespace isthmus {
namespace {

constexpr float kScale = 0.5f;

void TriadOnCpu(const Tensor& a, const Tensor& b, const Tensor& c) {
  float* to = a.As<float>();
  const float *const x = b.As<float>(), *const y = c.As<float>();
  ParallelFor(a.size(), 16384, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) to[i] = x[i] + kScale * y[i];
  });
  benchmark::DoNotOptimize(to);
}

}  // namespace

absl::StatusOr<double> MeasureTriad(int64_t bytes, Stream& stream) {
  const int64_t n = bytes / static_cast<int64_t>(sizeof(float));
  const bool on_gpu = stream.device() == Device::kCuda;
  const Filled a(stream, DType::kFloat32, 1, n), b(stream, DType::kFloat32, 1, n), c(stream, DType::kFloat32, 1, n);
  PhaseTimer timer(stream);
  double best = 0;
  for (int repeat = 0; repeat < (on_gpu ? 20 : 5); ++repeat) {
    double seconds = 0;
    {
      const PhaseTimer::Scope scope(timer, "triad", seconds);
      if (on_gpu) {
        ISTHMUS_RETURN_IF_ERROR(cuda::Triad(a, b, c, kScale, stream));
      } else {
        TriadOnCpu(a, b, c);
      }
    }
    ISTHMUS_RETURN_IF_ERROR(timer.Collect());
    best = std::max(best, 3.0 * static_cast<double>(bytes) / seconds);
  }
  return best;
}

}  // namespace isthmus
