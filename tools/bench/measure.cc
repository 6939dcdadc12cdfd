#include "tools/bench/measure.h"

#include <absl/strings/str_cat.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "launch/options.h"
#include "runtime/device.h"
#include "runtime/parallel_for.h"
#include "runtime/phase_timer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

const std::map<std::string, BenchSizes>& AllSizes() {
  static const auto* const sizes = new std::map<std::string, BenchSizes>{
      {"gpt2",
       {.tokens = 4096,
        .width = 768,
        .feed_forward = 2048,
        .vocabulary = 50257,
        .chunk = 512,
        .head_dim = 64,
        .sequence_length = 1024,
        .large_rows = 98304,  // 288 MB of fp32
        .triad_bytes = int64_t{1} << 28}},
      {"2b",
       {.tokens = 16384,
        .width = 4096,
        .feed_forward = 16384,
        .vocabulary = 49152,
        .chunk = 4096,
        .head_dim = 128,
        .sequence_length = 4096,
        .large_rows = 65536,  // 1 GiB of fp32
        .triad_bytes = int64_t{1} << 30}},
      {"tiny",
       {.tokens = 32,
        .width = 64,
        .feed_forward = 64,
        .vocabulary = 300,
        .chunk = 16,
        .head_dim = 32,
        .sequence_length = 16,
        .large_rows = 64,
        .triad_bytes = 4096}},
  };
  return *sizes;
}

}  // namespace

absl::StatusOr<Bench> ChooseBench(const std::string& command, int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  std::string device = "cpu", sizes;
  Options options(command, "Measures kernels; --benchmark_filter, --benchmark_out and others are Google Benchmark's.");
  options.Add("device", "DEVICE", "cpu, or cuda: the first GPU", &device)
      .Add("sizes", "SIZES", "gpt2, 2b or tiny; without: gpt2 on the CPU, 2b on a GPU", &sizes);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    std::fputs(options.Help().c_str(), stdout);
    std::exit(0);
  }
  Bench bench;
  if (device == "cuda") {
    ISTHMUS_RETURN_IF_ERROR(CudaDeviceCount().status());
    ISTHMUS_ASSIGN_OR_RETURN(bench.stream, OpenCudaStream(0));
    ISTHMUS_ASSIGN_OR_RETURN(const CudaDevice gpu, StreamDevice(bench.stream));
    bench.device = gpu.name;
  } else if (device == "cpu") {
    bench.device = absl::StrCat(MaxThreads(), " threads");
  } else {
    return absl::InvalidArgumentError(absl::StrCat("--device: found \"", device, "\"; accepts cpu, cuda"));
  }
  if (sizes.empty()) sizes = device == "cuda" ? "2b" : "gpt2";
  const auto found = AllSizes().find(sizes);
  if (found == AllSizes().end()) {
    return absl::InvalidArgumentError(absl::StrCat("--sizes: found \"", sizes, "\"; accepts gpt2, 2b, tiny"));
  }
  bench.sizes = found->second;
  return bench;
}

void MeasureAgainst(const Limit& limit, Bench& bench, benchmark::State& state, double amount, const Kernel& kernel) {
  const int calls = bench.stream.device() == Device::kCuda ? 10 : 1;
  PhaseTimer timer(bench.stream);
  const auto run = [&](double& seconds) -> absl::Status {
    {
      const PhaseTimer::Scope scope(timer, "kernel", seconds);
      for (int i = 0; i < calls; ++i) ISTHMUS_RETURN_IF_ERROR(kernel(bench.stream));
    }
    return timer.Collect();
  };
  double warm_up = 0;
  absl::Status status = run(warm_up);
  if (!status.ok()) return state.SkipWithError(std::string(status.message()).c_str());
  for (auto _ : state) {
    double seconds = 0;
    status = run(seconds);
    if (!status.ok()) {
      state.SkipWithError(std::string(status.message()).c_str());
      return;
    }
    state.SetIterationTime(seconds / calls);
  }
  const double total = amount * static_cast<double>(state.iterations());
  state.counters[limit.unit] = benchmark::Counter(total / 1e9, benchmark::Counter::kIsRate);
  state.counters[limit.ratio] = benchmark::Counter(total / limit.rate, benchmark::Counter::kIsRate);
}

void AddBenchmark(const Bench& bench, const std::string& name, const std::function<void(benchmark::State&)>& f) {
  auto* const added = benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Unit(benchmark::kMillisecond);
  if (bench.stream.device() == Device::kCuda) added->Iterations(10);
}

}  // namespace isthmus
