// How the planned memory and cost of every kind of head grow.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "launch/plan/plan.h"
#include "model/train/training_memory.h"
#include "tests/support/every_head.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

TinyOptions GrownOptions(const SmallHead& head, int64_t sequences, int64_t vocabulary) {
  TinyOptions options;
  options.tied = head.tied;
  options.head = absl::StrCat("kind: '", head.kind, "' ", head.settings);
  options.sequences = sequences;
  options.vocabulary = vocabulary;
  options.loss_chunk = 16;
  options.precision = proto::PrecisionConfig::BF16;
  return options;
}

MemoryBytes GrownMemory(const SmallHead& head, int64_t sequences, int64_t vocabulary) {
  return PlanTrainingMemory(TinyConfig(GrownOptions(head, sequences, vocabulary)), 0, Device::kCpu).bytes();
}

// A tensor [N, V] would be four times as large with four times the tokens, and once more with the vocabulary. What grows
// with one of them alone leaves nothing in the mixed difference.
TEST(HeadGrowth, NoMemoryGrowsWithTokensTimesVocabulary) {
  constexpr int64_t kSequences = 32, kVocabulary = 512;
  for (const SmallHead& head : EveryHead()) {
    SCOPED_TRACE(head.kind);
    const MemoryBytes least = GrownMemory(head, kSequences, kVocabulary);
    const MemoryBytes tokens = GrownMemory(head, 4 * kSequences, kVocabulary);
    const MemoryBytes vocabulary = GrownMemory(head, kSequences, 4 * kVocabulary);
    const MemoryBytes most = GrownMemory(head, 4 * kSequences, 4 * kVocabulary);
    const auto mixed = [&](int64_t MemoryBytes::*segment) {
      return most.*segment - tokens.*segment - vocabulary.*segment + least.*segment;
    };
    for (const auto segment :
         {&MemoryBytes::head, &MemoryBytes::activations, &MemoryBytes::weights, &MemoryBytes::optimizer}) {
      EXPECT_EQ(mixed(segment), 0);
    }
    // One buffer has room for tokens or for rows of the head, whichever are more. That leaves less than nothing.
    EXPECT_LE(mixed(&MemoryBytes::decomposition), 0);
    // Logits of a chunk grow with the vocabulary.
    EXPECT_GT(vocabulary.head, least.head);
  }
}

TEST(HeadGrowth, EveryPlanHasACostPerToken) {
  for (const SmallHead& head : EveryHead()) {
    SCOPED_TRACE(head.kind);
    proto::RunConfig config = TinyConfig(GrownOptions(head, 32, 512));
    config.mutable_data()->add_train("tokens");
    const auto plan = MakePlan(config, *GpuMachine("h100"), 1, head.kind);
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (const double cost : {plan->causal_flops_per_token, plan->full_flops_per_token, plan->step.time.Total()}) {
      EXPECT_TRUE(std::isfinite(cost)) << cost;
      EXPECT_GT(cost, 0);
    }
    // Six operations per token and parameter that multiplies, at least those of the blocks.
    EXPECT_GT(plan->causal_flops_per_token, 6.0 * 2 * (4 * 16 * 16 + 3 * 16 * 24));
  }
}

}  // namespace
}  // namespace isthmus::testing
