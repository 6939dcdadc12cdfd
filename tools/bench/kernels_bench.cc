// Bytes per second of the kernels that memory limits, beside what memory gave in the same run.
//
// `GB/s` counts the bytes that a kernel must read and write, once each. `of_triad` is that rate over the rate of
// a[i] = b[i] + s c[i] (McCalpin's STREAM; the read that a store to uncached memory brings along is not counted) on
// arrays of 256 MB each, measured at start with as many threads. The tensors of one call are smaller than a server's
// last-level cache, so a kernel may exceed 1; a training step touches them after others have displaced them, so read
// the rows "large" (tensors of 256 MB or more) for what memory allows.
#include <absl/strings/str_cat.h>
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "ops/adamw.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "tools/bench/filled.h"
#include "tools/bench/measure.h"

namespace isthmus {
namespace {

constexpr int64_t kTokens = 4096, kWidth = 768, kFeedForward = 2048, kVocabulary = 50257, kChunk = 256, kHeadDim = 64;

// Bytes per second of the triad, the best of five.
double MeasureTriad() {
  const size_t n = size_t{1} << 26;
  std::vector<float> a(n, 1), b(n, 2), c(n, 3);
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    ParallelFor(static_cast<int64_t>(n), 16384, [&](int64_t begin, int64_t end, int) {
      for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) a[i] = b[i] + 0.5f * c[i];
    });
    benchmark::DoNotOptimize(a.data());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 3.0 * static_cast<double>(n * sizeof(float)) / seconds.count());
  }
  return best;
}

double TriadRate() {
  static const double rate = MeasureTriad();
  return rate;
}

void Measure(benchmark::State& state, int64_t bytes, const std::function<absl::Status(Stream&)>& kernel) {
  MeasureAgainst({.unit = "GB/s", .ratio = "of_triad", .rate = TriadRate()}, state, static_cast<double>(bytes), kernel);
}

void RmsNormForwardBench(benchmark::State& state, DType dtype) {
  const DType sums = AccumulationType(dtype);
  const Filled x(dtype, kTokens, kWidth), addend(dtype, kTokens, kWidth), weight(dtype, 1, kWidth),
      y(dtype, kTokens, kWidth), inverse(sums, 1, kTokens);
  Measure(state, 4 * x->bytes(), [&](Stream& stream) {
    return RmsNormForward({.x = x, .addend = addend, .sum = x, .weight = weight, .y = y, .inverse = inverse}, stream);
  });
}

void RmsNormBackwardBench(benchmark::State& state, DType dtype) {
  const DType sums = AccumulationType(dtype);
  const Filled grad_y(dtype, kTokens, kWidth), x(dtype, kTokens, kWidth), weight(dtype, 1, kWidth),
      inverse(sums, 1, kTokens), grad_x(dtype, kTokens, kWidth), grad_weight(sums, 1, kWidth),
      workspace(sums, RmsNormWorkspaceRows(kTokens), kWidth);
  Measure(state, 4 * x->bytes(), [&](Stream& stream) {
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

void RopeBench(benchmark::State& state, DType dtype) {
  const int64_t length = 1024;
  Stream host;
  const Filled x(dtype, kTokens, kWidth), table(AccumulationType(dtype), length, kHeadDim);
  if (!FillRopeTable(10000, kHeadDim, table, host).ok()) return state.SkipWithError("FillRopeTable failed");
  Measure(state, 2 * x->bytes(), [&](Stream& stream) {
    return Rope({.x = x, .table = table, .sequence_length = length, .head_dim = kHeadDim}, stream);
  });
}

void SwigluForwardBench(benchmark::State& state, DType dtype) {
  const Filled gate_up(dtype, kTokens, 2 * kFeedForward), y(dtype, kTokens, kFeedForward);
  Measure(state, 3 * y->bytes(), [&](Stream& stream) { return SwigluForward({.gate_up = gate_up, .y = y}, stream); });
}

void SwigluBackwardBench(benchmark::State& state, DType dtype) {
  const Filled gate_up(dtype, kTokens, 2 * kFeedForward), grad(dtype, kTokens, 2 * kFeedForward),
      grad_y(dtype, kTokens, kFeedForward);
  Measure(state, 5 * grad_y->bytes(), [&](Stream& stream) {
    return SwigluBackward({.grad_y = grad_y, .gate_up = gate_up, .grad_gate_up = grad}, stream);
  });
}

// Ids as skewed as words are: a third of the tokens among 64 rows.
std::vector<int32_t> SkewedIds() {
  std::vector<int32_t> ids;
  for (int64_t n = 0; n < kTokens; ++n) {
    const uint32_t word = Philox::Words(1, RandomPurpose::kTest, 0, static_cast<uint64_t>(n))[0];
    ids.push_back(static_cast<int32_t>(n % 3 == 0 ? word % 64 : word % kVocabulary));
  }
  return ids;
}

void EmbeddingForwardBench(benchmark::State& state, DType dtype) {
  std::vector<int32_t> ids = SkewedIds();
  const Filled table(dtype, kVocabulary, kWidth), y(dtype, kTokens, kWidth);
  Measure(state, 2 * y->bytes(), [&](Stream& stream) {
    return EmbeddingForward({.ids = Tensor(ids.data(), DType::kInt32, 1, kTokens), .table = table, .y = y}, stream);
  });
}

void EmbeddingBackwardBench(benchmark::State& state, DType dtype) {
  std::vector<int32_t> ids = SkewedIds();
  const Filled grad_table(AccumulationType(dtype), kVocabulary, kWidth), grad_y(dtype, kTokens, kWidth),
      workspace(DType::kInt32, 1, 2 * kTokens);
  Measure(state, grad_y->bytes() + 2 * kTokens * kWidth * SizeOf(grad_table->dtype), [&](Stream& stream) {
    return EmbeddingBackward({.ids = Tensor(ids.data(), DType::kInt32, 1, kTokens),
                              .grad_y = grad_y,
                              .grad_table = grad_table,
                              .workspace = workspace},
                             stream);
  });
}

void CrossEntropyStatisticsBench(benchmark::State& state, DType dtype) {
  std::vector<int32_t> targets(kChunk, 17);
  const Filled logits(dtype, kChunk, kVocabulary), statistics(dtype, kChunk, kCrossEntropyStatistics);
  Measure(state, logits->bytes(), [&](Stream& stream) {
    return CrossEntropyStatistics(
        {.logits = logits, .targets = Tensor(targets.data(), DType::kInt32, 1, kChunk), .statistics = statistics},
        stream);
  });
}

void CrossEntropyGradientBench(benchmark::State& state, DType dtype) {
  std::vector<int32_t> targets(kChunk, 17);
  const Filled logits(DType::kFloat32, kChunk, kVocabulary), loss(DType::kFloat32, 1, kChunk),
      log_sum_exp(DType::kFloat32, 1, kChunk), grad(dtype, kChunk, kVocabulary);
  for (int64_t n = 0; n < kChunk; ++n) log_sum_exp->As<float>()[n] = 11;
  Measure(state, logits->bytes() + grad->bytes(), [&](Stream& stream) {
    return CrossEntropyGradient({.logits = logits,
                                 .targets = Tensor(targets.data(), DType::kInt32, 1, kChunk),
                                 .loss = loss,
                                 .log_sum_exp = log_sum_exp,
                                 .scale = 0.1,
                                 .grad_logits = grad},
                                stream);
  });
}

// `compute`: also writes the bf16 copy.
void AdamWBench(benchmark::State& state, int64_t n, bool compute) {
  const Filled weight(DType::kFloat32, 1, n), grad(DType::kFloat32, 1, n), first(DType::kFloat32, 1, n),
      second(DType::kFloat32, 1, n), copy(DType::kBFloat16, 1, compute ? n : 0);
  for (int64_t i = 0; i < n; ++i) second->As<float>()[i] = 1;
  int64_t step = 0;
  Measure(state, 7 * weight->bytes() + copy->bytes(), [&](Stream& stream) {
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

void AddBench(benchmark::State& state, DType dtype, int64_t rows) {
  const Filled x(dtype, rows, kWidth), y(dtype, rows, kWidth);
  Measure(state, 3 * x->bytes(), [&](Stream& stream) { return Add(x, y, stream); });
}

void CastBench(benchmark::State& state, DType from, DType to, int64_t rows) {
  const Filled x(from, rows, kWidth), y(to, rows, kWidth);
  Measure(state, x->bytes() + y->bytes(), [&](Stream& stream) { return Cast(x, y, stream); });
}

void SumOfSquaresBench(benchmark::State& state, DType dtype, int64_t rows) {
  const Filled x(dtype, rows, kWidth), total(DType::kFloat64, 1, 1);
  Measure(state, x->bytes(), [&](Stream& stream) { return AddSumOfSquares(x, total, stream); });
}

void RegisterAll() {
  const auto add = [](const std::string& name, const std::function<void(benchmark::State&)>& f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  const int64_t large = 98304;  // rows: 288 MB of fp32
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const std::string type = absl::StrCat("/", std::string(Name(dtype)));
    add(absl::StrCat("rms_norm_forward", type), [=](auto& s) { RmsNormForwardBench(s, dtype); });
    add(absl::StrCat("rms_norm_backward", type), [=](auto& s) { RmsNormBackwardBench(s, dtype); });
    add(absl::StrCat("rope", type), [=](auto& s) { RopeBench(s, dtype); });
    add(absl::StrCat("swiglu_forward", type), [=](auto& s) { SwigluForwardBench(s, dtype); });
    add(absl::StrCat("swiglu_backward", type), [=](auto& s) { SwigluBackwardBench(s, dtype); });
    add(absl::StrCat("embedding_forward", type), [=](auto& s) { EmbeddingForwardBench(s, dtype); });
    add(absl::StrCat("embedding_backward", type), [=](auto& s) { EmbeddingBackwardBench(s, dtype); });
    add(absl::StrCat("cross_entropy_gradient", type), [=](auto& s) { CrossEntropyGradientBench(s, dtype); });
    add(absl::StrCat("add", type), [=](auto& s) { AddBench(s, dtype, kTokens); });
    add(absl::StrCat("add/large", type), [=](auto& s) { AddBench(s, dtype, large); });
    add(absl::StrCat("sum_of_squares", type), [=](auto& s) { SumOfSquaresBench(s, dtype, kTokens); });
    add(absl::StrCat("sum_of_squares/large", type), [=](auto& s) { SumOfSquaresBench(s, dtype, large); });
  }
  add("cross_entropy_statistics/fp32", [](auto& s) { CrossEntropyStatisticsBench(s, DType::kFloat32); });
  add("cross_entropy_statistics/fp64", [](auto& s) { CrossEntropyStatisticsBench(s, DType::kFloat64); });
  add("adamw", [=](auto& s) { AdamWBench(s, kTokens * kWidth, false); });
  add("adamw/bf16_copy", [=](auto& s) { AdamWBench(s, kTokens * kWidth, true); });
  add("adamw/large", [=](auto& s) { AdamWBench(s, large * kWidth, false); });
  add("cast/large/fp32_bf16", [=](auto& s) { CastBench(s, DType::kFloat32, DType::kBFloat16, large); });
  add("cast/large/bf16_fp32", [=](auto& s) { CastBench(s, DType::kBFloat16, DType::kFloat32, large); });
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  isthmus::RegisterAll();
  std::printf("triad over 3 x 256 MB: %.1f GB/s with %d threads\n", isthmus::TriadRate() / 1e9, isthmus::MaxThreads());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
