// Floating-point operations per second of the work that matrix products limit. `of_peak` is their ratio to the
// matrix-product peak measured in the same run on the same device. The rows are the products of a layer and of the
// head, Gram matrices of the head's decomposition, and their factor. Products from bf16 parts and attention are there,
// too. Attention counts only the causal half of its T×T pairs.
#include <absl/strings/str_cat.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "model/algebra/gram_factor.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "ops/matmul_peak.h"
#include "ops/split.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "tools/bench/filled.h"
#include "tools/bench/measure.h"

namespace isthmus {
namespace {

// The device, and the rates of its products.
struct Products {
  Bench bench;
  std::map<DType, double> peaks;

  const Stream& stream() const { return bench.stream; }
  const BenchSizes& sizes() const { return bench.sizes; }
  void Measure(benchmark::State& state, DType dtype, double operations, const Kernel& kernel) {
    MeasureAgainst({.unit = "GFLOP/s", .ratio = "of_peak", .rate = peaks[dtype]}, bench, state, operations, kernel);
  }
};

// The three products of a linear layer [out, in] with `tokens` rows: forward, ∂input, and ∂weight in the sums' type.
enum class Pass { kForward, kGradInput, kGradWeight };
struct LinearShape {
  const char* name;
  int64_t tokens, in, out;
  bool wide_output;  // the forward product is left in the sums' type, as the head's logits are
};

void LinearBench(Products& products, benchmark::State& state, DType dtype, Pass pass, const LinearShape& shape) {
  const Stream& on = products.stream();
  const DType sums = AccumulationType(dtype), output = pass == Pass::kForward && shape.wide_output ? sums : dtype;
  const Filled x(on, dtype, shape.tokens, shape.in), weight(on, dtype, shape.out, shape.in),
      y(on, output, shape.tokens, shape.out),
      grad_weight(on, sums, pass == Pass::kGradWeight ? shape.out : 0, shape.in);
  const MatmulArgs forward = {.a = x, .b = weight, .c = y, .transpose_b = true};
  const MatmulArgs grad_input = {.a = y, .b = weight, .c = x};
  const MatmulArgs grad = {.a = y, .b = x, .c = grad_weight, .transpose_a = true, .accumulate = true};
  const MatmulArgs& args = pass == Pass::kForward ? forward : pass == Pass::kGradInput ? grad_input : grad;
  products.Measure(state, dtype, 2.0 * static_cast<double>(shape.tokens) * static_cast<double>(shape.in * shape.out),
                   [&](Stream& stream) { return Matmul(args, stream); });
}

void GramBench(Products& products, benchmark::State& state, DType dtype) {
  const int64_t rows = 4 * products.sizes().tokens, width = products.sizes().width;
  const Stream& on = products.stream();
  const Filled x(on, dtype, rows, width), c(on, DType::kFloat64, width, width),
      workspace(on, DType::kFloat32, width, width);
  products.Measure(state, dtype, 2.0 * static_cast<double>(rows) * static_cast<double>(width * width),
                   [&](Stream& stream) { return Gram({.x = x, .y = x, .c = c, .workspace = workspace}, stream); });
}

// A product of fp32 from bf16 parts (ops/split.h). All its six products count as operations.
void SplitBench(Products& products, benchmark::State& state) {
  const Stream& on = products.stream();
  const int64_t tokens = std::max<int64_t>(products.sizes().tokens / 4, 1), width = products.sizes().width;
  const Filled a(on, DType::kFloat32, tokens, width), a_parts(on, DType::kBFloat16, tokens, 3 * width),
      b_parts(on, DType::kBFloat16, 6 * width, width), c(on, DType::kFloat32, tokens, width);
  products.Measure(state, DType::kBFloat16, 12.0 * static_cast<double>(tokens) * static_cast<double>(width * width),
                   [&](Stream& stream) -> absl::Status {
                     ISTHMUS_RETURN_IF_ERROR(SplitLeft({.a = a, .parts = a_parts}, stream));
                     return SplitMatmul({.a = a_parts, .b = b_parts, .c = c}, stream);
                   });
}

// The factor of the head's Gram matrix and its inverse take n³/3 operations each.
void GramFactorBench(Products& products, benchmark::State& state) {
  const Stream& on = products.stream();
  const int64_t width = products.sizes().width;
  const Filled gram(on, DType::kFloat64, width, width), r(on, DType::kFloat64, width, width),
      inverse(on, DType::kFloat64, width, width), workspace(on, DType::kFloat64, kGramFactorRows, width);
  // The matrix 2^-|i - j| is positive definite, with a condition of 9 (Kac, Murdock and Szegő).
  std::vector<double> values;
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width; ++j) values.push_back(std::exp2(-static_cast<double>(std::abs(i - j))));
  }
  const absl::Status prepared =
      CopyFromHost(Tensor(values.data(), DType::kFloat64, width, width), gram, products.stream());
  if (!prepared.ok()) return state.SkipWithError(std::string(prepared.message()).c_str());
  products.Measure(
      state, DType::kFloat64, 2.0 / 3 * std::pow(static_cast<double>(width), 3), [&](Stream& stream) -> absl::Status {
        ISTHMUS_RETURN_IF_ERROR(Cast({.x = gram, .y = r}, stream));
        ISTHMUS_ASSIGN_OR_RETURN(const bool definite,
                                 FactorGram({.gram = r, .inverse = inverse, .workspace = workspace}, stream));
        return definite ? absl::OkStatus() : absl::InternalError("not positive definite");
      });
}

void AttentionBench(Products& products, benchmark::State& state, DType dtype, int64_t length, bool backward) {
  const Stream& on = products.stream();
  const int64_t head_dim = products.sizes().head_dim, width = products.sizes().width;
  const int64_t sequences = std::max<int64_t>(products.sizes().tokens / 4 / length, 1), tokens = sequences * length;
  const AttentionShape shape = {.sequences = sequences,
                                .sequence_length = length,
                                .heads = width / head_dim,
                                .kv_heads = width / head_dim,
                                .head_dim = head_dim};
  const Filled q(on, dtype, tokens, width), k(on, dtype, tokens, width), v(on, dtype, tokens, width),
      out(on, dtype, tokens, width), log_sum_exp(on, AccumulationType(dtype), sequences, shape.heads * length),
      grad_q(on, dtype, tokens, width), grad_k(on, dtype, tokens, width), grad_v(on, dtype, tokens, width),
      workspace(on, DType::kUInt8, 1, AttentionWorkspaceBytes(shape, dtype, on.device()));
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
  // Attention has two products of [T, T] by head_dim forward, and five backward; half of them are behind the causal
  // mask.
  const double pairs = static_cast<double>(tokens) * static_cast<double>(length) / 2;
  const double one_product = 2.0 * pairs * static_cast<double>(width);
  if (!backward) return products.Measure(state, dtype, 2 * one_product, forward);
  if (!forward(products.bench.stream).ok()) return state.SkipWithError("AttentionForward failed");
  products.Measure(state, dtype, 5 * one_product, [&](Stream& stream) {
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
                             stream);
  });
}

// `products` must live until the benchmarks have run.
void RegisterAll(Products& products) {
  const BenchSizes& sizes = products.sizes();
  const int64_t tokens = std::max<int64_t>(sizes.tokens / 4, 1), width = sizes.width;
  using State = benchmark::State;
  if (products.peaks.count(DType::kBFloat16) > 0) {
    AddBenchmark(products.bench, "split/bf16", [&products](State& state) { SplitBench(products, state); });
  }
  AddBenchmark(products.bench, "gram_factor/fp64", [&products](State& state) { GramFactorBench(products, state); });
  for (const auto& [known, peak] : products.peaks) {
    const DType dtype = known;
    if (dtype == DType::kFloat64) continue;  // nothing else is computed in it where speed counts
    const std::string type = absl::StrCat("/", std::string(Name(dtype)));
    for (const LinearShape& shape : {LinearShape{"qkv", tokens, width, 3 * width, false},
                                     LinearShape{"gate_up", tokens, width, 2 * sizes.feed_forward, false},
                                     LinearShape{"down", tokens, sizes.feed_forward, width, false},
                                     LinearShape{"head", sizes.chunk, width, sizes.vocabulary, true}}) {
      for (const auto& [pass, name] :
           {std::pair(Pass::kForward, "/forward"), std::pair(Pass::kGradInput, "/grad_input"),
            std::pair(Pass::kGradWeight, "/grad_weight")}) {
        AddBenchmark(
            products.bench, absl::StrCat(shape.name, name, type),
            [&products, dtype, shape, pass = pass](State& state) { LinearBench(products, state, dtype, pass, shape); });
      }
    }
    AddBenchmark(products.bench, absl::StrCat("gram", type),
                 [&products, dtype](State& state) { GramBench(products, state, dtype); });
    for (const int64_t length : {sizes.sequence_length / 4, sizes.sequence_length}) {
      for (const bool backward : {false, true}) {
        AddBenchmark(products.bench, absl::StrCat("attention_", backward ? "backward" : "forward", "/T", length, type),
                     [&products, dtype, length, backward](State& state) {
                       AttentionBench(products, state, dtype, length, backward);
                     });
      }
    }
  }
}

absl::Status Run(int argc, char** argv) {
  Products products;
  ISTHMUS_ASSIGN_OR_RETURN(products.bench, ChooseBench("products_bench", argc, argv));
  benchmark::AddCustomContext("device", products.bench.device);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    Bench& bench = products.bench;
    const int64_t size = std::min(MatmulPeakSize(bench.stream.device(), dtype), 16 * bench.sizes.width);
    const std::string name(Name(dtype));
    const auto peak = MeasureMatmulPeak(dtype, absl::Seconds(2), bench.stream, size);
    if (!peak.ok()) {  // a CPU without bf16
      std::printf("%s is not measured: %s\n", name.c_str(), std::string(peak.status().message()).c_str());
      continue;
    }
    products.peaks[dtype] = *peak;
    const double gigaflops = *peak / 1e9;
    std::printf("%s matrix-product peak: %.1f GFLOP/s with %s\n", name.c_str(), gigaflops, bench.device.c_str());
    benchmark::AddCustomContext(name + "_peak_gigaflops_per_second", absl::StrCat(gigaflops));
  }
  RegisterAll(products);
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
