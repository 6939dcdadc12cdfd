// The operators that a dry run records do the operations that are counted for utilisation. Both equal those of the
// formulas.
#include "model/train/dry_run.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "model/model.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

// Counts all matrices of a Llama model but the embedding look-up, the head once.
int64_t MultiplyingParameters(const proto::ModelConfig& model) {
  const int64_t attention = model.width() * model.head_dim() * (2 * model.heads() + 2 * model.kv_heads());
  const int64_t head = model.head_rank() > 0 ? model.head_rank() * (model.width() + model.vocabulary())
                                             : model.width() * model.vocabulary();
  return model.layers() * (attention + 3 * model.width() * model.feed_forward()) + head;
}

RecordedWork WorkOf(const TinyOptions& options, int tensor_rank = 0) {
  auto work = RecordStep(TinyConfig(options), {.tensor_rank = tensor_rank});
  EXPECT_TRUE(work.ok()) << work.status();
  return *std::move(work);
}

struct Flops {
  double products = 0, fp8_products = 0, attention_forward = 0, attention_backward = 0;
};

// The sums over all ranks, for a step that measures nothing.
Flops FlopsOf(const TinyOptions& options) {
  Flops sum;
  for (int rank = 0; rank < options.tensor; ++rank) {
    const RecordedWork work = WorkOf(options, rank);
    const std::vector<int64_t> counts = work.OperatorCounts();
    for (size_t i = 0; i < counts.size(); ++i) {
      const OperatorCost& cost = work.operators[i].cost;
      const double flops = cost.flops * static_cast<double>(counts[i]) * options.data;
      if (cost.kind == OperatorCost::Kind::kProduct) sum.products += flops;
      if (cost.kind == OperatorCost::Kind::kFp8Product) sum.fp8_products += flops;
      if (cost.kind == OperatorCost::Kind::kAttentionForward) sum.attention_forward += flops;
      if (cost.kind == OperatorCost::Kind::kAttentionBackward) sum.attention_backward += flops;
    }
  }
  return sum;
}

TinyOptions Options() {
  TinyOptions options;
  options.loss_chunk = 16;  // divides the tokens of a micro-batch
  return options;
}

TEST(DryRun, ProductsAreSixOperationsPerParameterAndToken) {
  for (const auto& [tensor, data, head_rank, tied] : {std::tuple(1, 1, 0, false), std::tuple(1, 2, 6, false),
                                                      std::tuple(2, 2, 0, false), std::tuple(4, 1, 0, true)}) {
    TinyOptions options = Options();
    options.tensor = tensor;
    options.data = data;
    options.head_rank = head_rank;
    options.tied = tied;
    SCOPED_TRACE(options.Name());
    const proto::ModelConfig model = TinyConfig(options).model();
    const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
    const Flops flops = FlopsOf(options);
    EXPECT_DOUBLE_EQ(flops.products, 6.0 * static_cast<double>(MultiplyingParameters(model)) * tokens);
    // Causal attention has two products of half of T×T forward. Backward has four, and the scores once more.
    const double attention =
        2.0 * static_cast<double>(model.layers() * options.sequence_length * model.heads() * model.head_dim()) * tokens;
    EXPECT_DOUBLE_EQ(flops.attention_forward, attention);
    EXPECT_DOUBLE_EQ(flops.attention_backward, 2.5 * attention);
    const double causal = flops.products + flops.attention_forward + flops.attention_backward * 0.8;
    EXPECT_DOUBLE_EQ(causal, FlopsPerToken(TinyConfig(options), /*causal=*/true) * tokens);
    EXPECT_DOUBLE_EQ(causal + 3 * attention, FlopsPerToken(TinyConfig(options), /*causal=*/false) * tokens);
  }
}

TEST(DryRun, RecomputationRepeatsTheLayersButForTheDownProjection) {
  TinyOptions options = Options();
  const Flops once = FlopsOf(options);
  options.recompute = true;
  const Flops twice = FlopsOf(options);
  const proto::ModelConfig model = TinyConfig(options).model();
  const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
  const int64_t head = model.width() * model.vocabulary();
  const int64_t down = model.layers() * model.width() * model.feed_forward();
  EXPECT_DOUBLE_EQ(twice.products - once.products,
                   2.0 * static_cast<double>(MultiplyingParameters(model) - head - down) * tokens);
  EXPECT_DOUBLE_EQ(twice.attention_forward, 2 * once.attention_forward);
}

TEST(DryRun, EightBitProductsAreThoseOfTheLayers) {
  TinyOptions options = Options();
  options.feed_forward = 32;  // a multiple of kFp8Multiple
  options.recompute = true;
  const Flops plain = FlopsOf(options);
  options.precision = proto::PrecisionConfig::BF16;
  options.fp8 = true;
  const Flops fp8 = FlopsOf(options);
  const proto::ModelConfig model = TinyConfig(options).model();
  const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
  EXPECT_DOUBLE_EQ(fp8.products, 6.0 * static_cast<double>(model.width() * model.vocabulary()) * tokens);
  EXPECT_DOUBLE_EQ(fp8.products + fp8.fp8_products, plain.products);
}

TEST(DryRun, MicroBatchesDoTheSameWorkInMoreCalls) {
  TinyOptions whole = Options(), parts = Options();
  parts.micro_batch = 2;
  EXPECT_DOUBLE_EQ(FlopsOf(whole).products, FlopsOf(parts).products);
  EXPECT_TRUE(WorkOf(whole).collectives.empty());
}

TEST(DryRun, OfAGpuNeedsNone) {
  TinyOptions options = Options();
  options.precision = proto::PrecisionConfig::BF16;
  options.cuda_graph = true;
  options.width = 64;  // as attention on GPUs wants its heads
  options.heads = 2;
  options.head_dim = 32;
  for (const bool measure : {false, true}) {
    const auto work = RecordStep(TinyConfig(options), {.device = Device::kCuda, .measure = measure});
    ASSERT_TRUE(work.ok()) << work.status();
    EXPECT_EQ(work->OperatorCounts().empty(), false);
  }
}

TEST(DryRun, TakesNoMemoryForTheLargestModel) {
  TinyOptions options = Options();
  options.precision = proto::PrecisionConfig::BF16;
  options.width = 16384;
  options.heads = 128;
  options.head_dim = 128;
  options.feed_forward = 65536;
  options.vocabulary = 1 << 20;
  options.sequences = 1 << 16;
  options.sequence_length = 1 << 15;
  options.micro_batch = 1;
  options.sample_tokens = 16384;
  const auto work = RecordStep(TinyConfig(options), {.device = Device::kCuda, .measure = true});
  ASSERT_TRUE(work.ok()) << work.status();
  double flops = 0;
  const std::vector<int64_t> counts = work->OperatorCounts();
  for (size_t i = 0; i < counts.size(); ++i) flops += work->operators[i].cost.flops * static_cast<double>(counts[i]);
  EXPECT_GT(flops, 6.0 * static_cast<double>(MultiplyingParameters(TinyConfig(options).model())) * (int64_t{1} << 31));
}

// With a sharded optimizer a rank has only a part of the head's gradient. On the CPU no run would show that the rest is
// missing, because there a reduce-scatter leaves the sum of all of it.
TEST(DryRun, TheHeadsWholeGradientIsGatheredBeforeAPartOfItIsTaken) {
  const auto gathered = [](const std::string& head) {
    TinyOptions options = Options();
    options.data = 2;
    options.shard_optimizer = true;
    options.head = head;
    const RecordedWork work = WorkOf(options);
    const std::vector<int64_t> counts = work.CollectiveCounts();
    int64_t bytes = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const CollectiveCall& call = work.collectives[i];
      if (call.kind == CollectiveKind::kAllGather && call.phase == StepPhase::kHead) bytes += counts[i] * call.bytes;
    }
    return bytes;
  };
  EXPECT_EQ(gathered(""), 0);
  EXPECT_GE(gathered("weight_gradient { kind: 'visible' }"), 509 * 16 * int64_t{sizeof(double)});
}

}  // namespace
}  // namespace isthmus::testing
