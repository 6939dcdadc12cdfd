// What the benchmarks of single kernels share.
#ifndef ISTHMUS_TOOLS_BENCH_MEASURE_H_
#define ISTHMUS_TOOLS_BENCH_MEASURE_H_

#include <absl/status/status.h>
#include <benchmark/benchmark.h>

#include <functional>
#include <string>

#include "runtime/stream.h"

namespace isthmus {

// What limits a kernel: the counters' names, and the rate per second that was measured in this run.
struct Limit {
  const char* unit;   // of the kernel's own rate, in billions: "GB/s"
  const char* ratio;  // of that rate to the limit: "of_triad"
  double rate;
};

// Times `kernel`, which moves or computes `amount` per call.
inline void MeasureAgainst(const Limit& limit, benchmark::State& state, double amount,
                           const std::function<absl::Status(Stream&)>& kernel) {
  Stream stream;
  for (auto _ : state) {
    if (const absl::Status status = kernel(stream); !status.ok()) {
      state.SkipWithError(std::string(status.message()).c_str());
      return;
    }
  }
  const double total = amount * static_cast<double>(state.iterations());
  state.counters[limit.unit] = benchmark::Counter(total / 1e9, benchmark::Counter::kIsRate);
  state.counters[limit.ratio] = benchmark::Counter(total / limit.rate, benchmark::Counter::kIsRate);
}

}  // namespace isthmus

#endif  // ISTHMUS_TOOLS_BENCH_MEASURE_H_
