// ranks: 1 2 4
// The first-order decrease of the loss is -⟨gradient, update⟩, on every mesh.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "model/train/loss_decrease.h"
#include "parallel/communicator.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr char kGroups[] = R"(
  groups { name: "table" parameters: "embedding.*" learning_rate_factor: 3 }
  groups { name: "others" parameters: "*norm*" parameters: "head.*" weight_decay: 0.5 })";

std::vector<double> ElementsOf(const Tensor& tensor) {
  std::vector<double> elements;
  for (int64_t i = 0; i < tensor.size(); ++i) elements.push_back(ElementOf(tensor, i));
  return elements;
}

double TotalOf(const LossDecreases& decreases) { return decreases.embedding + decreases.blocks + decreases.head; }

void ExpectNear(const LossDecreases& found, const LossDecreases& expected, double tolerance) {
  EXPECT_NEAR(found.embedding / expected.embedding, 1, tolerance);
  EXPECT_NEAR(found.blocks / expected.blocks, 1, tolerance);
  if (expected.head != 0) {
    EXPECT_NEAR(found.head / expected.head, 1, tolerance);
  } else {
    EXPECT_EQ(found.head, 0) << "a tied head belongs to the embedding";
  }
  ASSERT_EQ(found.groups.size(), expected.groups.size());
  for (size_t i = 0; i < found.groups.size(); ++i) {
    EXPECT_NEAR(found.groups[i] / expected.groups[i], 1, tolerance) << i;
  }
}

std::vector<TinyOptions> Heads() {
  TinyOptions full, tied, factorised;
  full.optimizer = tied.optimizer = factorised.optimizer = kGroups;
  tied.tied = true;
  tied.optimizer = "groups { name: 'table' parameters: 'embedding.*' learning_rate_factor: 3 }";
  factorised.head_rank = 6;
  return {full, tied, factorised};
}

// Weights before and after the step, and the gradient between them, are read element by element.
TEST(LossDecrease, IsTheSumOverElements) {
  for (const TinyOptions& options : Heads()) {
    SCOPED_TRACE(options.Name());
    Replica replica(options);
    const ParameterStore& parameters = replica.model().parameters();
    ASSERT_FALSE(replica.Step(1, false).decrease.has_value());
    const std::vector<double> before = ElementsOf(parameters.weights());
    const StepWithFigures result = replica.Step(2, true);
    ASSERT_TRUE(result.decrease.has_value());
    const std::vector<double> after = ElementsOf(parameters.weights()), gradient = ElementsOf(parameters.gradients());
    LossDecreases expected;
    expected.groups.resize(options.tied ? 1 : 2);
    for (const ParameterSpec& spec : parameters.specs()) {
      double decrease = 0;
      for (int64_t e = spec.offset; e < spec.offset + spec.local_size(); ++e) {
        const auto i = static_cast<size_t>(e);
        decrease -= gradient[i] * (after[i] - before[i]);
      }
      const bool in_embedding = spec.name == "embedding.weight", in_head = spec.name.rfind("head.", 0) == 0;
      (in_embedding ? expected.embedding : in_head ? expected.head : expected.blocks) += decrease;
      if (in_embedding) {
        expected.groups[0] += decrease;
      } else if (!options.tied && (in_head || spec.name.find("norm") != std::string::npos)) {
        expected.groups[1] += decrease;
      }
    }
    ExpectNear(*result.decrease, expected, 1e-9);
  }
}

// The loss of the same tokens falls by as much after a small step.
TEST(LossDecrease, IsWhatASmallStepGains) {
  TinyOptions options;
  options.optimizer = "clip_norm: 0.01 weight_decay: 0.1";
  Replica replica(options);
  TokenBatch batch = MakeBatch(options, 1);
  const Tensor ids = PartOf(batch.ids, 0, 1), targets = PartOf(batch.targets, 0, 1);
  const auto before = replica.model().Evaluate(ids, targets);
  const auto result =
      replica.model().Step({.ids = ids, .targets = targets, .step = 1, .learning_rate = 1e-7, .measure = true});
  const auto after = replica.model().Evaluate(ids, targets);
  ASSERT_TRUE(before.ok() && after.ok() && result.ok()) << result.status();
  ASSERT_TRUE(result->decrease.has_value());
  EXPECT_GT(result->gradient_norm, 0.01) << "clipping shortens the update, not the gradient";
  EXPECT_NEAR((*before - *after) / TotalOf(*result->decrease), 1, 1e-4);
}

TEST(LossDecrease, EveryMeshGivesOneRanksFigures) {
  for (const int tensor : {1, 2, 4}) {
    if (World().size() % tensor != 0) continue;
    for (TinyOptions options : Heads()) {
      options.tensor = tensor;
      options.data = World().size() / tensor;
      for (const bool sharded : {false, true}) {
        options.sequence_parallel = options.shard_optimizer = sharded;
        SCOPED_TRACE(options.Name());
        Replica alone(options), meshed(options, &World());
        for (const int64_t step : {1, 2}) {
          const auto expected = alone.Step(step, true).decrease, found = meshed.Step(step, true).decrease;
          ASSERT_TRUE(expected.has_value() && found.has_value());
          ExpectNear(*found, *expected, 1e-8);
        }
      }
    }
  }
}

// bf16 weights keep most updates for later; the master weights that have them are meant.
TEST(LossDecrease, OfBf16WeightsIsTheMasterWeights) {
  TinyOptions options;
  options.tensor = World().size();
  options.precision = proto::PrecisionConfig::BF16;
  TinyOptions exact = options;
  exact.precision = proto::PrecisionConfig::FP32;
  Replica rounded(options, &World()), replica(exact, &World());
  const auto found = rounded.Step(1, true).decrease, expected = replica.Step(1, true).decrease;
  ASSERT_TRUE(found.has_value() && expected.has_value());
  ExpectNear(*found, *expected, 0.1);
}

}  // namespace
}  // namespace isthmus::testing
