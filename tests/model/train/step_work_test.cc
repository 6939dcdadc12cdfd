// The operators of a step do the operations that are counted for utilisation, and both are those of the formulas.
#include "model/train/step_work.h"

#include <gtest/gtest.h>

#include "model/model.h"
#include "model/model_shape.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

// All matrices of a Llama model but the embedding look-up, the head once.
int64_t MultiplyingParameters(const ModelShape& shape, int64_t head_rank = 0) {
  const int64_t attention = shape.width * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads);
  const int64_t head = head_rank > 0 ? head_rank * (shape.width + shape.vocabulary) : shape.width * shape.vocabulary;
  return shape.layers * (attention + 3 * shape.width * shape.feed_forward) + head;
}

struct Flops {
  double products = 0, fp8_products = 0, attention_forward = 0, attention_backward = 0;
};

// Of a step's phases but telemetry, over all ranks.
Flops FlopsOf(const TinyOptions& options) {
  Flops sum;
  for (int rank = 0; rank < options.tensor; ++rank) {
    for (const OperatorWork& work : WorkOfStep(TinyConfig(options), rank, Device::kCpu).operators) {
      if (work.phase == StepPhase::kTelemetry) continue;
      const double flops = work.flops * static_cast<double>(work.calls) * options.data;
      if (work.kind == OperatorWork::Kind::kProduct) sum.products += flops;
      if (work.kind == OperatorWork::Kind::kFp8Product) sum.fp8_products += flops;
      if (work.kind == OperatorWork::Kind::kAttentionForward) sum.attention_forward += flops;
      if (work.kind == OperatorWork::Kind::kAttentionBackward) sum.attention_backward += flops;
    }
  }
  return sum;
}

TinyOptions Options() {
  TinyOptions options;
  options.loss_chunk = 16;  // divides the tokens of a micro-batch
  return options;
}

TEST(StepWork, ProductsAreSixOperationsPerParameterAndToken) {
  for (const auto& [tensor, data, head_rank, tied] : {std::tuple(1, 1, 0, false), std::tuple(1, 2, 6, false),
                                                      std::tuple(2, 2, 0, false), std::tuple(4, 1, 0, true)}) {
    TinyOptions options = Options();
    options.tensor = tensor;
    options.data = data;
    options.head_rank = head_rank;
    options.tied = tied;
    SCOPED_TRACE(options.Name());
    const ModelShape shape = ModelShape::From(TinyConfig(options).model());
    const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
    const Flops flops = FlopsOf(options);
    EXPECT_DOUBLE_EQ(flops.products,
                     6.0 * static_cast<double>(MultiplyingParameters(shape, options.head_rank)) * tokens);
    // Causal: two products of half of T×T forward; backward four, and the scores once more.
    const double attention =
        2.0 * static_cast<double>(shape.layers * options.sequence_length * shape.heads * shape.head_dim) * tokens;
    EXPECT_DOUBLE_EQ(flops.attention_forward, attention);
    EXPECT_DOUBLE_EQ(flops.attention_backward, 2.5 * attention);
    const double causal = flops.products + flops.attention_forward + flops.attention_backward * 0.8;
    EXPECT_DOUBLE_EQ(causal, FlopsPerToken(TinyConfig(options), /*causal=*/true) * tokens);
    EXPECT_DOUBLE_EQ(causal + 3 * attention, FlopsPerToken(TinyConfig(options), /*causal=*/false) * tokens);
  }
}

TEST(StepWork, RecomputationRepeatsTheLayersButForTheDownProjection) {
  TinyOptions options = Options();
  const Flops once = FlopsOf(options);
  options.recompute = true;
  const Flops twice = FlopsOf(options);
  const ModelShape shape = ModelShape::From(TinyConfig(options).model());
  const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
  const int64_t head = shape.width * shape.vocabulary;
  const int64_t down = shape.layers * shape.width * shape.feed_forward;
  EXPECT_DOUBLE_EQ(twice.products - once.products,
                   2.0 * static_cast<double>(MultiplyingParameters(shape) - head - down) * tokens);
  EXPECT_DOUBLE_EQ(twice.attention_forward, 2 * once.attention_forward);
}

TEST(StepWork, EightBitProductsAreThoseOfTheLayers) {
  TinyOptions options = Options();
  options.recompute = true;
  const Flops plain = FlopsOf(options);
  options.precision = proto::PrecisionConfig::BF16;
  options.fp8 = true;
  const Flops fp8 = FlopsOf(options);
  const ModelShape shape = ModelShape::From(TinyConfig(options).model());
  const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
  EXPECT_DOUBLE_EQ(fp8.products, 6.0 * static_cast<double>(shape.width * shape.vocabulary) * tokens);
  EXPECT_DOUBLE_EQ(fp8.products + fp8.fp8_products, plain.products);
}

TEST(StepWork, MicroBatchesDoTheSameWorkInMoreCalls) {
  TinyOptions whole = Options(), parts = Options();
  parts.micro_batch = 2;
  EXPECT_DOUBLE_EQ(FlopsOf(whole).products, FlopsOf(parts).products);
  EXPECT_EQ(WorkOfStep(TinyConfig(parts), 0, Device::kCpu).micro_batches, 4);
  EXPECT_TRUE(WorkOfStep(TinyConfig(whole), 0, Device::kCpu).collectives.empty());
}

}  // namespace
}  // namespace isthmus::testing
