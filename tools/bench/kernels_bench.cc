// Bytes per second of the kernels that memory limits, beside the memory's own rate in the same run.
//
// `GB/s` counts the bytes that a kernel must read and write, once each. `of_triad` is that rate over the rate of the
// triad (tools/bench/triad.h), measured at start on the same device. The triad's arrays have 256 MB each, 1 GiB each on
// a GPU. With the sizes gpt2 the tensors of one call are smaller than a server's last-level cache, so a kernel may
// exceed 1. A training step touches them after others have displaced them. The rows "large" (tensors of 256 MB or more)
// therefore show what memory allows. With the sizes 2b no row fits a GPU's cache.
#include <absl/strings/str_cat.h>
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

#include "ops/adamw.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"
#include "ops/weight_step.h"
#include "runtime/philox.h"
#include "runtime/status.h"
#include "tools/bench/filled.h"
#include "tools/bench/measure.h"
#include "tools/bench/triad.h"

namespace isthmus {
namespace {

// The device, and the rate of its memory.
struct Memory {
  Bench bench;
  double triad = 0;

  const Stream& stream() const { return bench.stream; }
  const BenchSizes& sizes() const { return bench.sizes; }
  void Measure(benchmark::State& state, int64_t bytes, const Kernel& kernel) {
    MeasureAgainst({.unit = "GB/s", .ratio = "of_triad", .rate = triad}, bench, state, static_cast<double>(bytes),
                   kernel);
  }
};

void RmsNormForwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, width = memory.sizes().width;
  const Stream& on = memory.stream();
  const Filled x(on, dtype, tokens, width), addend(on, dtype, tokens, width), weight(on, dtype, 1, width),
      y(on, dtype, tokens, width), inverse(on, AccumulationType(dtype), 1, tokens);
  memory.Measure(state, 4 * x->bytes(), [&](Stream& stream) {
    return RmsNormForward({.x = x, .addend = addend, .sum = x, .weight = weight, .y = y, .inverse = inverse}, stream);
  });
}

void RmsNormBackwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, width = memory.sizes().width;
  const DType sums = AccumulationType(dtype);
  const Stream& on = memory.stream();
  const Filled grad_y(on, dtype, tokens, width), x(on, dtype, tokens, width), weight(on, dtype, 1, width),
      inverse(on, sums, 1, tokens), grad_x(on, dtype, tokens, width), grad_weight(on, sums, 1, width),
      workspace(on, sums, RmsNormWorkspaceRows(tokens), width);
  memory.Measure(state, 4 * x->bytes(), [&](Stream& stream) {
    return RmsNormBackward({.grad_y = grad_y,
                            .x = x,
                            .weight = weight,
                            .inverse = inverse,
                            .grad_x = grad_x,
                            .grad_weight = grad_weight,
                            .workspace = workspace,
                            .accumulate = true},
                           stream);
  });
}

void LayerNormForwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, width = memory.sizes().width;
  const Stream& on = memory.stream();
  const Filled x(on, dtype, tokens, width), addend(on, dtype, tokens, width), weight(on, dtype, 1, width),
      bias(on, dtype, 1, width), y(on, dtype, tokens, width), statistics(on, AccumulationType(dtype), 2, tokens);
  memory.Measure(state, 4 * x->bytes(), [&](Stream& stream) {
    return LayerNormForward(
        {.x = x, .addend = addend, .sum = x, .weight = weight, .bias = bias, .y = y, .statistics = statistics}, stream);
  });
}

void LayerNormBackwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, width = memory.sizes().width;
  const DType sums = AccumulationType(dtype);
  const Stream& on = memory.stream();
  const Filled grad_y(on, dtype, tokens, width), x(on, dtype, tokens, width), weight(on, dtype, 1, width),
      statistics(on, sums, 2, tokens), grad_x(on, dtype, tokens, width), grad_weight(on, sums, 1, width),
      grad_bias(on, sums, 1, width), workspace(on, sums, LayerNormWorkspaceRows(tokens), width);
  memory.Measure(state, 4 * x->bytes(), [&](Stream& stream) {
    return LayerNormBackward({.grad_y = grad_y,
                              .x = x,
                              .weight = weight,
                              .statistics = statistics,
                              .grad_x = grad_x,
                              .grad_weight = grad_weight,
                              .grad_bias = grad_bias,
                              .workspace = workspace,
                              .accumulate = true},
                             stream);
  });
}

void RopeBench(Memory& memory, benchmark::State& state, DType dtype) {
  const BenchSizes& sizes = memory.sizes();
  const Filled x(memory.stream(), dtype, sizes.tokens, sizes.width),
      table(memory.stream(), AccumulationType(dtype), sizes.sequence_length, sizes.head_dim);
  if (!FillRopeTable({.theta = 10000, .head_dim = sizes.head_dim, .table = table}, memory.bench.stream).ok()) {
    return state.SkipWithError("FillRopeTable failed");
  }
  memory.Measure(state, 2 * x->bytes(), [&](Stream& stream) {
    return Rope({.x = x, .table = table, .sequence_length = sizes.sequence_length, .head_dim = sizes.head_dim}, stream);
  });
}

void SwigluForwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, hidden = memory.sizes().feed_forward;
  const Filled gate_up(memory.stream(), dtype, tokens, 2 * hidden), y(memory.stream(), dtype, tokens, hidden);
  memory.Measure(state, 3 * y->bytes(),
                 [&](Stream& stream) { return SwigluForward({.gate_up = gate_up, .y = y}, stream); });
}

void SwigluBackwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const int64_t tokens = memory.sizes().tokens, hidden = memory.sizes().feed_forward;
  const Stream& on = memory.stream();
  const Filled gate_up(on, dtype, tokens, 2 * hidden), grad(on, dtype, tokens, 2 * hidden),
      grad_y(on, dtype, tokens, hidden);
  memory.Measure(state, 5 * grad_y->bytes(), [&](Stream& stream) {
    return SwigluBackward({.grad_y = grad_y, .gate_up = gate_up, .grad_gate_up = grad}, stream);
  });
}

// The ids are as skewed as words are: a third of the tokens fall among 64 rows.
std::vector<int32_t> SkewedIds(const BenchSizes& sizes) {
  std::vector<int32_t> ids;
  for (int64_t n = 0; n < sizes.tokens; ++n) {
    const uint32_t word = Philox::Words(1, RandomPurpose::kTest, 0, static_cast<uint64_t>(n))[0];
    ids.push_back(static_cast<int32_t>(n % 3 == 0 ? word % 64 : word % static_cast<uint32_t>(sizes.vocabulary)));
  }
  return ids;
}

void EmbeddingForwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const BenchSizes& sizes = memory.sizes();
  const Filled ids(memory.stream(), SkewedIds(sizes)), table(memory.stream(), dtype, sizes.vocabulary, sizes.width),
      y(memory.stream(), dtype, sizes.tokens, sizes.width);
  memory.Measure(state, 2 * y->bytes(),
                 [&](Stream& stream) { return EmbeddingForward({.ids = ids, .table = table, .y = y}, stream); });
}

void EmbeddingBackwardBench(Memory& memory, benchmark::State& state, DType dtype) {
  const BenchSizes& sizes = memory.sizes();
  const Stream& on = memory.stream();
  const Filled ids(on, SkewedIds(sizes)), grad_table(on, AccumulationType(dtype), sizes.vocabulary, sizes.width),
      grad_y(on, dtype, sizes.tokens, sizes.width), workspace(on, DType::kInt32, 1, 2 * sizes.tokens);
  memory.Measure(state, grad_y->bytes() + 2 * grad_y->size() * SizeOf(grad_table->dtype), [&](Stream& stream) {
    return EmbeddingBackward({.ids = ids, .grad_y = grad_y, .grad_table = grad_table, .workspace = workspace}, stream);
  });
}

void CrossEntropyStatisticsBench(Memory& memory, benchmark::State& state, DType dtype) {
  const BenchSizes& sizes = memory.sizes();
  const Filled targets(memory.stream(), std::vector<int32_t>(static_cast<size_t>(sizes.chunk), 17)),
      logits(memory.stream(), dtype, sizes.chunk, sizes.vocabulary),
      statistics(memory.stream(), dtype, sizes.chunk, kCrossEntropyStatistics);
  memory.Measure(state, logits->bytes(), [&](Stream& stream) {
    return CrossEntropyStatistics({.logits = logits, .targets = targets, .statistics = statistics}, stream);
  });
}

void CrossEntropyGradientBench(Memory& memory, benchmark::State& state, DType dtype) {
  const BenchSizes& sizes = memory.sizes();
  const Stream& on = memory.stream();
  const Filled targets(on, std::vector<int32_t>(static_cast<size_t>(sizes.chunk), 17)),
      logits(on, DType::kFloat32, sizes.chunk, sizes.vocabulary), loss(on, DType::kFloat32, 1, sizes.chunk),
      log_sum_exp(on, DType::kFloat32, 1, sizes.chunk, 11.0), grad(on, dtype, sizes.chunk, sizes.vocabulary);
  memory.Measure(state, logits->bytes() + grad->bytes(), [&](Stream& stream) {
    return CrossEntropyGradient({.logits = logits,
                                 .targets = targets,
                                 .loss = loss,
                                 .log_sum_exp = log_sum_exp,
                                 .scale = 0.1,
                                 .grad_logits = grad},
                                stream);
  });
}

// `compute` says that it also writes the bf16 copy.
void AdamWBench(Memory& memory, benchmark::State& state, int64_t n, bool compute) {
  const Stream& on = memory.stream();
  const Filled weight(on, DType::kFloat32, 1, n), grad(on, DType::kFloat32, 1, n), first(on, DType::kFloat32, 1, n),
      second(on, DType::kFloat32, 1, n, 1.0), copy(on, DType::kBFloat16, 1, compute ? n : 0);
  int64_t step = 0;
  memory.Measure(state, 7 * weight->bytes() + copy->bytes(), [&](Stream& stream) {
    return AdamW({.weight = weight,
                  .grad = grad,
                  .first_moment = first,
                  .second_moment = second,
                  .compute_weight = compute ? Tensor(copy) : Tensor(),
                  .learning_rate = 1e-4,
                  .step = ++step},
                 stream);
  });
}

void CombineBench(Memory& memory, benchmark::State& state, int64_t n) {
  const Filled x(memory.stream(), DType::kFloat32, 1, n), y(memory.stream(), DType::kFloat32, 1, n);
  memory.Measure(state, 3 * x->bytes(),
                 [&](Stream& stream) { return Combine({.x = x, .y = y, .x_factor = 0.1, .y_factor = 0.9}, stream); });
}

void NormaliseBench(Memory& memory, benchmark::State& state, int64_t n) {
  const Filled x(memory.stream(), DType::kFloat32, 1, n);
  memory.Measure(state, 3 * x->bytes(), [&](Stream& stream) { return Normalise({.x = x, .epsilon = 1e-7}, stream); });
}

void WeightStepBench(Memory& memory, benchmark::State& state, int64_t n) {
  const Stream& on = memory.stream();
  const Filled weight(on, DType::kFloat32, 1, n), direction(on, DType::kFloat32, 1, n),
      copy(on, DType::kBFloat16, 1, n);
  memory.Measure(state, 3 * weight->bytes() + copy->bytes(), [&](Stream& stream) {
    return WeightStep({.weight = weight, .direction = direction, .compute_weight = copy, .learning_rate = 1e-4},
                      stream);
  });
}

void AddBench(Memory& memory, benchmark::State& state, DType dtype, int64_t rows) {
  const Filled x(memory.stream(), dtype, rows, memory.sizes().width), y(memory.stream(), dtype, rows, x->columns);
  memory.Measure(state, 3 * x->bytes(), [&](Stream& stream) { return Add({.x = x, .y = y}, stream); });
}

void CastBench(Memory& memory, benchmark::State& state, DType from, DType to) {
  const int64_t rows = memory.sizes().large_rows, width = memory.sizes().width;
  const Filled x(memory.stream(), from, rows, width), y(memory.stream(), to, rows, width);
  memory.Measure(state, x->bytes() + y->bytes(), [&](Stream& stream) { return Cast({.x = x, .y = y}, stream); });
}

void SumOfSquaresBench(Memory& memory, benchmark::State& state, DType dtype, int64_t rows) {
  const Filled x(memory.stream(), dtype, rows, memory.sizes().width), total(memory.stream(), DType::kFloat64, 1, 1);
  memory.Measure(state, x->bytes(), [&](Stream& stream) { return AddSumOfSquares({.x = x, .total = total}, stream); });
}

void DotBench(Memory& memory, benchmark::State& state, DType dtype, int64_t rows) {
  const int64_t width = memory.sizes().width;
  const Filled x(memory.stream(), dtype, rows, width), y(memory.stream(), dtype, rows, width);
  const Filled total(memory.stream(), DType::kFloat64, 1, 1);
  memory.Measure(state, x->bytes() + y->bytes(),
                 [&](Stream& stream) { return AddDot({.x = x, .y = y, .total = total}, stream); });
}

// `memory` must live until the benchmarks have run.
void RegisterAll(Memory& memory) {
  const int64_t tokens = memory.sizes().tokens, width = memory.sizes().width, large = memory.sizes().large_rows;
  const auto add = [&memory](const std::string& name, const auto& f) {
    AddBenchmark(memory.bench, name, [&memory, f](benchmark::State& state) { f(memory, state); });
  };
  using State = benchmark::State;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const std::string type = absl::StrCat("/", std::string(Name(dtype)));
    const auto with_type = [&](const char* name, void (*f)(Memory&, State&, DType)) {
      add(absl::StrCat(name, type), [=](Memory& m, State& s) { f(m, s, dtype); });
    };
    with_type("rms_norm_forward", RmsNormForwardBench);
    with_type("rms_norm_backward", RmsNormBackwardBench);
    with_type("layer_norm_forward", LayerNormForwardBench);
    with_type("layer_norm_backward", LayerNormBackwardBench);
    with_type("rope", RopeBench);
    with_type("swiglu_forward", SwigluForwardBench);
    with_type("swiglu_backward", SwigluBackwardBench);
    with_type("embedding_forward", EmbeddingForwardBench);
    with_type("embedding_backward", EmbeddingBackwardBench);
    with_type("cross_entropy_gradient", CrossEntropyGradientBench);
    for (const int64_t rows : {tokens, large}) {
      const std::string at = absl::StrCat(rows == large ? "/large" : "", type);
      add(absl::StrCat("add", at), [=](Memory& m, State& s) { AddBench(m, s, dtype, rows); });
      add(absl::StrCat("sum_of_squares", at), [=](Memory& m, State& s) { SumOfSquaresBench(m, s, dtype, rows); });
      add(absl::StrCat("dot", at), [=](Memory& m, State& s) { DotBench(m, s, dtype, rows); });
    }
  }
  add("cross_entropy_statistics/fp32", [](Memory& m, State& s) { CrossEntropyStatisticsBench(m, s, DType::kFloat32); });
  if (memory.stream().device() == Device::kCpu) {
    add("cross_entropy_statistics/fp64",
        [](Memory& m, State& s) { CrossEntropyStatisticsBench(m, s, DType::kFloat64); });
  }
  add("adamw", [=](Memory& m, State& s) { AdamWBench(m, s, tokens * width, false); });
  add("adamw/bf16_copy", [=](Memory& m, State& s) { AdamWBench(m, s, tokens * width, true); });
  add("adamw/large", [=](Memory& m, State& s) { AdamWBench(m, s, large * width, false); });
  add("combine", [=](Memory& m, State& s) { CombineBench(m, s, tokens * width); });
  add("normalise", [=](Memory& m, State& s) { NormaliseBench(m, s, tokens * width); });
  add("weight_step/bf16_copy", [=](Memory& m, State& s) { WeightStepBench(m, s, tokens * width); });
  add("cast/large/fp32_bf16", [](Memory& m, State& s) { CastBench(m, s, DType::kFloat32, DType::kBFloat16); });
  add("cast/large/bf16_fp32", [](Memory& m, State& s) { CastBench(m, s, DType::kBFloat16, DType::kFloat32); });
}

absl::Status Run(int argc, char** argv) {
  Memory memory;
  ISTHMUS_ASSIGN_OR_RETURN(memory.bench, ChooseBench("kernels_bench", argc, argv));
  const int64_t bytes = memory.sizes().triad_bytes;
  ISTHMUS_ASSIGN_OR_RETURN(memory.triad, MeasureTriad(bytes, memory.bench.stream));
  std::printf("triad over 3 x %.0f MB: %.1f GB/s with %s\n", static_cast<double>(bytes) / (1 << 20), memory.triad / 1e9,
              memory.bench.device.c_str());
  benchmark::AddCustomContext("device", memory.bench.device);
  benchmark::AddCustomContext("triad_gigabytes_per_second", absl::StrCat(memory.triad / 1e9));
  RegisterAll(memory);
  benchmark::RunSpecifiedBenchmarks();
  return absl::OkStatus();
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  const absl::Status status = isthmus::Run(argc, argv);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 2;
}
