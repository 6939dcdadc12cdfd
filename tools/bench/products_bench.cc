// Floating-point operations per second of what matrix products limit, beside the matrix-product peak measured in the
// same run with as many threads (`of_peak`, the ratio): the products of a GPT-2-sized layer and head, Gram matrices of
// the head's decomposition, and attention, of which only the causal half of the T×T pairs is counted.
#include <absl/strings/str_cat.h>
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "ops/attention.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "ops/matmul_peak.h"
#include "runtime/parallel_for.h"
#include "tools/bench/filled.h"
#include "tools/bench/measure.h"

namespace isthmus {
namespace {

constexpr int64_t kTokens = 1024, kWidth = 768, kFeedForward = 2048, kVocabulary = 50257, kChunk = 512;

double PeakOf(DType dtype) {
  static std::map<DType, double> peaks;
  const auto found = peaks.find(dtype);
  if (found != peaks.end()) return found->second;
  Stream stream;
  const auto peak = MeasureMatmulPeak(dtype, absl::Seconds(2), stream);
  return peaks[dtype] = peak.ok() ? *peak : std::nan("");
}

void Measure(benchmark::State& state, DType dtype, double operations,
             const std::function<absl::Status(Stream&)>& kernel) {
  MeasureAgainst({.unit = "GFLOP/s", .ratio = "of_peak", .rate = PeakOf(dtype)}, state, operations, kernel);
}

// The three products of a linear layer [out, in] with `tokens` rows: forward, ∂input, and ∂weight in the sums' type.
enum class Pass { kForward, kGradInput, kGradWeight };

void LinearBench(benchmark::State& state, DType dtype, Pass pass, int64_t tokens, int64_t in, int64_t out) {
  const Filled x(dtype, tokens, in), weight(dtype, out, in), y(dtype, tokens, out),
      grad_weight(AccumulationType(dtype), pass == Pass::kGradWeight ? out : 0, in);
  const MatmulArgs forward = {.a = x, .b = weight, .c = y, .transpose_b = true};
  const MatmulArgs grad_input = {.a = y, .b = weight, .c = x};
  const MatmulArgs grad = {.a = y, .b = x, .c = grad_weight, .transpose_a = true, .accumulate = true};
  const MatmulArgs& args = pass == Pass::kForward ? forward : pass == Pass::kGradInput ? grad_input : grad;
  Measure(state, dtype, 2.0 * static_cast<double>(tokens * in * out),
          [&](Stream& stream) { return Matmul(args, stream); });
}

void GramBench(benchmark::State& state, DType dtype) {
  const int64_t rows = 16'384;
  const Filled x(dtype, rows, kWidth), c(DType::kFloat64, kWidth, kWidth), workspace(DType::kFloat32, kWidth, kWidth);
  Measure(state, dtype, 2.0 * static_cast<double>(rows * kWidth * kWidth),
          [&](Stream& stream) { return Gram({.x = x, .y = x, .c = c, .workspace = workspace}, stream); });
}

void AttentionBench(benchmark::State& state, DType dtype, int64_t length, int64_t head_dim, bool backward) {
  const AttentionShape shape = {.sequences = kTokens / length,
                                .sequence_length = length,
                                .heads = kWidth / head_dim,
                                .kv_heads = kWidth / head_dim,
                                .head_dim = head_dim};
  const Filled q(dtype, kTokens, kWidth), k(dtype, kTokens, kWidth), v(dtype, kTokens, kWidth),
      out(dtype, kTokens, kWidth), log_sum_exp(AccumulationType(dtype), shape.sequences, shape.heads * length),
      grad_q(dtype, kTokens, kWidth), grad_k(dtype, kTokens, kWidth), grad_v(dtype, kTokens, kWidth),
      workspace(DType::kUInt8, 1, AttentionWorkspaceBytes(shape, dtype, Device::kCpu));
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const auto forward = [&](Stream& stream) {
    return AttentionForward({.shape = shape,
                             .scale = scale,
                             .q = q,
                             .k = k,
                             .v = v,
                             .out = out,
                             .log_sum_exp = log_sum_exp,
                             .workspace = workspace},
                            stream);
  };
  // Two products of [T, T] by head_dim forward, five backward; half of them behind the causal mask.
  const double pairs = static_cast<double>(kTokens) * static_cast<double>(length) / 2;
  const double one_product = 2.0 * pairs * static_cast<double>(kWidth);
  if (!backward) return Measure(state, dtype, 2 * one_product, forward);
  Stream stream;
  if (!forward(stream).ok()) return state.SkipWithError("AttentionForward failed");
  Measure(state, dtype, 5 * one_product, [&](Stream& s) {
    return AttentionBackward({.shape = shape,
                              .scale = scale,
                              .grad_out = q,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .log_sum_exp = log_sum_exp,
                              .grad_q = grad_q,
                              .grad_k = grad_k,
                              .grad_v = grad_v,
                              .workspace = workspace},
                             s);
  });
}

void RegisterAll() {
  const auto add = [](const std::string& name, const std::function<void(benchmark::State&)>& f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const std::string type = absl::StrCat("/", std::string(Name(dtype)));
    const auto linear = [&](const char* name, int64_t tokens, int64_t in, int64_t out) {
      add(absl::StrCat(name, "/forward", type),
          [=](auto& s) { LinearBench(s, dtype, Pass::kForward, tokens, in, out); });
      add(absl::StrCat(name, "/grad_input", type),
          [=](auto& s) { LinearBench(s, dtype, Pass::kGradInput, tokens, in, out); });
      add(absl::StrCat(name, "/grad_weight", type),
          [=](auto& s) { LinearBench(s, dtype, Pass::kGradWeight, tokens, in, out); });
    };
    linear("qkv", kTokens, kWidth, 3 * kWidth);
    linear("gate_up", kTokens, kWidth, 2 * kFeedForward);
    linear("down", kTokens, kFeedForward, kWidth);
    linear("head", kChunk, kWidth, kVocabulary);
    add(absl::StrCat("gram", type), [=](auto& s) { GramBench(s, dtype); });
    for (const int64_t length : {256, 1024}) {
      const std::string at = absl::StrCat("/T", length, type);
      add(absl::StrCat("attention_forward", at), [=](auto& s) { AttentionBench(s, dtype, length, 64, false); });
      add(absl::StrCat("attention_backward", at), [=](auto& s) { AttentionBench(s, dtype, length, 64, true); });
    }
  }
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  isthmus::RegisterAll();
  for (const isthmus::DType dtype : {isthmus::DType::kFloat32, isthmus::DType::kBFloat16}) {
    std::printf("%s matrix-product peak: %.1f GFLOP/s with %d threads\n", std::string(isthmus::Name(dtype)).c_str(),
                isthmus::PeakOf(dtype) / 1e9, isthmus::MaxThreads());
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
