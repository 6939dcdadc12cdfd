// ranks: 1 2
// All ranks notice a number that is not finite on one rank before a weight changes, whatever the step consists of.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "model/train/non_finite.h"
#include "tests/support/head_comparison.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Returns the bits of all that an optimizer step changes on this rank.
std::string StateOf(TrainingModel& model) {
  std::string bytes;
  const auto append = [&](const Tensor& tensor) {
    if (tensor.defined()) bytes.append(static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes()));
  };
  append(model.parameters().weights());
  for (const Optimizer::StatePart& part : model.optimizer().State()) {
    for (const auto& [role, tensor] : part.tensors) append(tensor);
  }
  return bytes;
}

StepWithFigures TryStep(Replica& replica, const TinyOptions& options, int64_t step, bool measure_head,
                        const StepRequest::Accept& accept = nullptr) {
  TokenBatch batch = MakeBatch(options, step);
  const Mesh& mesh = replica.mesh();
  auto result = replica.model().Step({.ids = PartOf(batch.ids, mesh.data_rank(), mesh.data_ranks()),
                                      .targets = PartOf(batch.targets, mesh.data_rank(), mesh.data_ranks()),
                                      .step = step,
                                      .learning_rate = 1e-3,
                                      .measure = measure_head,
                                      .accept = accept});
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? WithFigures(*result, measure_head, &replica.decomposition()) : StepWithFigures();
}

// Both meshes of the world, in every precision, each with one option or another.
std::vector<TinyOptions> Paths() {
  std::vector<TinyOptions> paths;
  for (const bool tensor : {true, false}) {
    for (int kind = 0; kind < 6; ++kind) {
      TinyOptions options;
      options.tensor = tensor ? World().size() : 1;
      options.data = tensor ? 1 : World().size();
      options.sequence_parallel = kind == 1 || kind == 3;
      options.shard_optimizer = kind == 2 || kind == 3;
      options.recompute = kind == 2;
      options.micro_batch = kind == 1 ? 1 : 0;
      options.tied = kind == 4;
      options.head_rank = kind == 5 ? 6 : 0;
      options.precision = kind % 3 == 0   ? proto::PrecisionConfig::FP32
                          : kind % 3 == 1 ? proto::PrecisionConfig::BF16
                                          : proto::PrecisionConfig::FP64;
      paths.push_back(options);
    }
    TinyOptions fp8;
    fp8.tensor = tensor ? World().size() : 1;
    fp8.data = tensor ? 1 : World().size();
    fp8.width = 32;
    fp8.heads = 4;
    fp8.head_dim = 8;
    fp8.feed_forward = 64;
    fp8.sequence_length = 16;
    fp8.precision = proto::PrecisionConfig::BF16;
    fp8.fp8 = true;
    paths.push_back(fp8);
  }
  return paths;
}

TEST(NonFinite, AWeightOnOneRankIsNoticedByAllBeforeAnythingChanges) {
  const int bad = World().size() - 1;
  for (const TinyOptions& options : Paths()) {
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    EXPECT_TRUE(TryStep(replica, options, 1, false).applied);
    // The first of them where everything is slow.
    std::vector<const char*> names = {"layers.1.feed_forward.down_proj.weight", "layers.0.attention.q_proj.weight",
                                      "layers.0.attention_norm.weight", "final_norm.weight"};
    if (TestsAreFew()) names.resize(1);
    for (const char* name : names) {
      for (const double value : {kNaN, kInfinity}) {
        for (const bool measure_head : {false, true}) {
          SCOPED_TRACE(std::string(name) + " " + std::to_string(value) + (measure_head ? " measured" : ""));
          const Tensor weight = replica.model().parameters().Weight(name);
          const double before = ElementOf(weight, 3);
          if (World().rank() == bad) SetElement(weight, 3, value);
          const std::string state = StateOf(replica.model());
          const StepResult result = TryStep(replica, options, 2, measure_head);
          EXPECT_FALSE(result.applied);
          EXPECT_FALSE(result.finite());
          EXPECT_TRUE(state == StateOf(replica.model()));
          const auto found = replica.model().FindNonFinite();
          ASSERT_TRUE(found.ok()) << found.status();
          EXPECT_EQ(found->weight, World().rank() == bad ? name : "");
          if (World().rank() == bad) SetElement(weight, 3, before);
        }
      }
    }
    // The next step is as if nothing had been.
    EXPECT_TRUE(TryStep(replica, options, 2, true).applied);
  }
}

TEST(NonFinite, AStepThatIsNotAcceptedChangesNothing) {
  for (const TinyOptions& options : Paths()) {
    SCOPED_TRACE(options.Name());
    Replica refusing(options, &World()), plain(options, &World());
    int asked = 0;
    for (int64_t step = 1; step <= 3; ++step) {
      const std::string before = StateOf(refusing.model());
      const StepResult refused = TryStep(refusing, options, 10 + step, step == 2, [&](const StepFigures& figures) {
        ++asked;
        EXPECT_TRUE(figures.finite());
        return false;
      });
      EXPECT_FALSE(refused.applied);
      EXPECT_TRUE(before == StateOf(refusing.model()));
      const StepWithFigures expected = TryStep(plain, options, step, step == 2);
      const StepWithFigures taken =
          TryStep(refusing, options, step, step == 2, [](const StepFigures&) { return true; });
      EXPECT_TRUE(taken.applied);
      EXPECT_EQ(taken.loss, expected.loss);
      EXPECT_EQ(taken.gradient_norm, expected.gradient_norm);
      ASSERT_EQ(taken.head.has_value(), step == 2);
      if (step == 2) ExpectSameFigures(*taken.head, *expected.head, 0);
    }
    EXPECT_EQ(asked, 3);
    EXPECT_TRUE(StateOf(plain.model()) == StateOf(refusing.model()));
  }
}

// The square of a number of this size is infinite in the type of the sums, although the number is finite.
double SquaresOverflow(const TinyOptions& options) {
  return options.precision == proto::PrecisionConfig::FP64 ? 1e200 : 1e25;
}

// Hidden states with an overflowing norm became zero: the loss was ln V, and there was no gradient.
TEST(NonFinite, ANormThatOverflowsIsNoticedByAllAndNamed) {
  for (const TinyOptions& options : Paths()) {
    if (options.fp8) continue;  // fp8 products overflow before that
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    const Tensor table = replica.model().parameters().Weight("embedding.weight");
    for (int64_t i = 0; i < table.size(); ++i) SetElement(table, i, (i % 2 == 0 ? 1 : -1) * SquaresOverflow(options));
    const std::string state = StateOf(replica.model());
    const StepResult result = TryStep(replica, options, 1, false);
    EXPECT_FALSE(result.applied);
    EXPECT_FALSE(result.finite());
    EXPECT_TRUE(state == StateOf(replica.model()));
    const auto found = replica.model().FindNonFinite();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->weight, "");
    EXPECT_EQ(found->activation, options.recompute ? "layers.0.output" : "layers.0.attention_norm.inverse");
  }
}

void Fill(Replica& replica, const char* name, double value) {
  const Tensor weight = replica.model().parameters().Weight(name);
  for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, value);
}

TEST(NonFinite, AGradientOfExactlyZeroIsNotAppliedUnlessTheLossIsZeroToo) {
  for (const TinyOptions& options : Paths()) {
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    const bool factorised = options.head_rank > 0;
    for (const char* name : {"final_norm.weight", factorised     ? "head.up.weight"
                                                  : options.tied ? "embedding.weight"
                                                                 : "head.weight"}) {
      Fill(replica, name, 0);
    }
    const std::string state = StateOf(replica.model());
    const StepResult result = TryStep(replica, options, 1, false);
    EXPECT_NEAR(result.loss, std::log(static_cast<double>(options.vocabulary)), 1e-5);
    EXPECT_EQ(result.gradient_norm, 0);
    EXPECT_FALSE(result.applied);
    EXPECT_TRUE(state == StateOf(replica.model()));
    const auto found = replica.model().FindZero();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->weight, options.tied ? "embedding.weight" : "final_norm.weight");
  }
  TinyOptions one_token;
  one_token.data = World().size();
  one_token.vocabulary = 1;
  Replica replica(one_token, &World());
  const StepResult result = TryStep(replica, one_token, 1, false);
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.gradient_norm, 0);
  EXPECT_TRUE(result.applied);
}

// Finite gradients whose squares are infinite in fp32 stopped their weights for good, and nobody was told.
TEST(NonFinite, AGradientTooLargeForTheOptimizerIsNotApplied) {
  TinyOptions options;
  options.data = World().size();
  Replica wide(options, &World());
  options.precision = proto::PrecisionConfig::BF16;
  Replica narrow(options, &World());
  for (const auto& [norm, factor, fits] : {std::tuple(1e19, 1.0, true),
                                           {2e19, 1.0, false},
                                           {2e19, 0.5, true},
                                           {1e38, 1e-37, true},
                                           {1e39, 1e-39, false}}) {
    SCOPED_TRACE(::testing::Message() << norm << " " << factor);
    EXPECT_EQ(narrow.model().optimizer().CanTake(norm, factor), fits);
    EXPECT_TRUE(wide.model().optimizer().CanTake(norm, factor));
  }
}

// This holds not only where a fault spreads by itself: each number of each rank counts.
TEST(NonFinite, EveryRankGetsTheSameFiguresWhateverOneOfThemHas) {
  const int ranks = World().size();
  for (const int tensor : {1, ranks}) {
    const Stream stream;
    const auto mesh = Mesh::Create(World(), tensor, ranks / tensor, stream);
    ASSERT_TRUE(mesh.ok()) << mesh.status();
    for (const bool part : {false, true}) {
      for (int bad = -1; bad < ranks; ++bad) {
        for (int place = 0; place < 3; ++place) {
          for (const double value : {kNaN, kInfinity, 1e9}) {
            double own[] = {2, 9, 16};
            if (World().rank() == bad) own[place] = value;
            const auto figures = AgreeOnFigures({own[0], {own[1], own[2]}, part}, 0.5, *mesh);
            ASSERT_TRUE(figures.ok()) << figures.status();
            EXPECT_EQ(figures->finite(), bad < 0 || value == 1e9) << bad << " " << place << " " << value;
            double bits[2];
            std::memcpy(bits, &*figures, sizeof(bits));
            std::vector<double> first(bits, bits + 2);
            ASSERT_TRUE(World().Broadcast(Tensor(first.data(), DType::kFloat64, 1, 2), 0).ok());
            EXPECT_EQ(std::memcmp(first.data(), bits, sizeof(bits)), 0) << bad << " " << place << " " << value;
          }
        }
      }
    }
  }
}

TEST(NonFinite, TheDescriptionBeginsWithTheEarliestEvidence) {
  NonFiniteTensors late, early;
  late.gradient = "head.weight";
  early = late;
  early.activation = "final_norm.x";
  early.loss = true;
  EXPECT_EQ(DescribeNonFinite({late, early, late}),
            "rank 1: activation final_norm.x, its loss, gradient of head.weight; ranks 0, 2: gradient of head.weight");
  NonFiniteTensors weight;
  weight.weight = "final_norm.weight";
  EXPECT_EQ(DescribeNonFinite({{}, weight}), "rank 1: weight final_norm.weight; rank 0: nothing");
  // The names of a thousand ranks are not all listed.
  EXPECT_LT(DescribeNonFinite(std::vector<NonFiniteTensors>(1000, late)).size(), 200u);
}

}  // namespace
}  // namespace isthmus::testing
