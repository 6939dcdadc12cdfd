// The device, the sizes, and rates beside their limits, shared by the benchmarks of single kernels.
#ifndef ISTHMUS_TOOLS_BENCH_MEASURE_H_
#define ISTHMUS_TOOLS_BENCH_MEASURE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <benchmark/benchmark.h>

#include <functional>
#include <string>

#include "runtime/stream.h"

namespace isthmus {

// The sizes of the tensors with which kernels are measured.
struct BenchSizes {
  int64_t tokens, width, feed_forward, vocabulary;
  int64_t chunk;  // tokens whose logits exist at once
  int64_t head_dim, sequence_length;
  int64_t large_rows;   // of [rows, width] tensors that no cache holds
  int64_t triad_bytes;  // of one array of the triad
};

struct Bench {
  Stream stream;
  std::string device;  // "2 threads", "NVIDIA H200"
  BenchSizes sizes{};
};

// Reads Google Benchmark's options and --device=cpu|cuda, --sizes=gpt2|2b|tiny (default: gpt2 on the CPU, 2b on a GPU).
// Errors: InvalidArgument with what is accepted, FailedPrecondition if there is no GPU.
absl::StatusOr<Bench> ChooseBench(const std::string& command, int argc, char** argv);

using Kernel = std::function<absl::Status(Stream&)>;

// The limit of a kernel: the counters' names, and the rate per second that was measured in this run.
struct Limit {
  const char* unit;   // of the kernel's own rate, in billions: "GB/s"
  const char* ratio;  // of that rate to the limit: "of_triad"
  double rate;
};

// Times `kernel`, which moves or computes `amount` per call, by the clock on a CPU and by events on a GPU. On a GPU
// each iteration is several calls in a row, so that starting them is not part of the time.
void MeasureAgainst(const Limit& limit, Bench& bench, benchmark::State& state, double amount, const Kernel& kernel);

// Registers `f` under `name`. On a GPU it is called once, with a fixed number of iterations. A search for that number
// would fill tensors of gigabytes again, which would take most of the time.
void AddBenchmark(const Bench& bench, const std::string& name, const std::function<void(benchmark::State&)>& f);

}  // namespace isthmus

#endif  // ISTHMUS_TOOLS_BENCH_MEASURE_H_
