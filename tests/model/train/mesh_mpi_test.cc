// ranks: 1 2 4 8
// Any mesh gives the same run as one rank alone: losses, initial weights, and the lost gradient of the head.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "model/heads/heads.h"
#include "model/measure/tensor_decomposition.h"
#include "parallel/communicator.h"
#include "proto/telemetry.pb.h"
#include "tests/support/conditioned_head.h"
#include "tests/support/head_comparison.h"
#include "tests/support/head_reference.h"
#include "tests/support/one_rank.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

class MeshTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto runtime = MpiRuntime::Initialize();
    ASSERT_TRUE(runtime.ok()) << runtime.status();
    runtime_ = runtime->release();
    world_ = runtime_->World().release();
  }
  static void TearDownTestSuite() {
    delete world_;
    delete runtime_;
  }

  // Returns meshes of {1, 2, 4} tensor × {1, 2} data ranks that this world makes.
  static std::vector<TinyOptions> Meshes() {
    std::vector<TinyOptions> meshes;
    for (const int tensor : {1, 2, 4}) {
      for (const int data : {1, 2}) {
        TinyOptions options;
        options.tensor = tensor;
        options.data = data;
        if (tensor * data == world_->size()) meshes.push_back(options);
      }
    }
    return meshes;
  }

  static std::vector<double> Losses(Replica& replica) {
    std::vector<double> losses;
    for (int64_t step = 1; step <= TestSteps(); ++step) losses.push_back(replica.Step(step).loss);
    return losses;
  }

  static void ExpectSameLosses(const std::vector<TinyOptions>& meshes, double tolerance) {
    for (const TinyOptions& options : meshes) {
      SCOPED_TRACE(options.Name());
      Replica alone(options), meshed(options, world_);
      ExpectSameInitialWeights(alone, meshed);
    }
    ExpectThatLossesFall(ExpectLossesOfOneRank(*world_, meshes, TestSteps(), tolerance));
  }

  static void ExpectSameInitialWeights(Replica& alone, Replica& meshed) {
    const ParameterStore &whole = alone.model().parameters(), &part = meshed.model().parameters();
    for (size_t s = 0; s < part.specs().size(); ++s) {
      const ParameterSpec& spec = part.specs()[s];
      const Tensor local = part.Weight(static_cast<int>(s)), global = whole.Weight(spec.name);
      for (int64_t row = 0; row < local.rows; ++row) {
        for (int64_t column = 0; column < local.columns; ++column) {
          ASSERT_EQ(ElementOf(local, row * local.columns + column), ElementOf(global, spec.GlobalIndex(row, column)))
              << spec.name << " [" << row << ", " << column << "]";
        }
      }
    }
  }

  static MpiRuntime* runtime_;
  static Communicator* world_;
};
MpiRuntime* MeshTest::runtime_ = nullptr;
Communicator* MeshTest::world_ = nullptr;

// All options of one mesh whose combination is meaningful there. Many ranks on few cores are slow, so four and more take
// the options in pairs.
std::vector<TinyOptions> Variants(const TinyOptions& mesh) {
  std::vector<TinyOptions> variants;
  for (const int bits : Switches(4, TestsAreFew() || mesh.tensor * mesh.data >= 4)) {
    TinyOptions options = mesh;
    options.sequence_parallel = (bits & 1) != 0;
    options.shard_optimizer = (bits & 2) != 0;
    options.recompute = (bits & 4) != 0;
    options.micro_batch = (bits & 8) != 0 ? 2 : 0;
    variants.push_back(options);
  }
  return variants;
}

std::vector<TinyOptions> Heads(const TinyOptions& mesh) {
  TinyOptions full = mesh, tied = mesh, factorised = mesh;
  tied.tied = true;
  factorised.head_rank = 6;
  return {full, tied, factorised};
}

TEST_F(MeshTest, LossesOfAllVariantsEqualOneRankInFp64) {
  std::vector<TinyOptions> meshes;
  for (const TinyOptions& mesh : Meshes()) {
    for (const TinyOptions& head : Heads(mesh)) {
      for (const TinyOptions& options : Variants(head)) meshes.push_back(options);
    }
  }
  ExpectSameLosses(meshes, 1e-10);
}

// Muon gathers matrices that are cut by rows, by columns, or anywhere by a sharded optimizer. Ranks that own nothing of
// a matrix take part.
TEST_F(MeshTest, LossesOfEveryOptimizerEqualOneRankInFp64) {
  std::vector<TinyOptions> meshes;
  for (const TinyOptions& mesh : Meshes()) {
    for (const TinyOptions& head : Heads(mesh)) {
      for (const char* optimizer :
           {"kind: 'amsgrad'", "kind: 'sgd' learning_rate: 0.1",
            "kind: 'muon' groups { name: 'others' parameters: ['*norm*', 'embedding.*'] kind: 'adamw' }"}) {
        meshes.push_back(head);
        meshes.back().optimizer = optimizer;
        meshes.back().sequence_parallel = meshes.back().shard_optimizer = mesh.tensor * mesh.data > 1 && !head.tied;
      }
    }
  }
  ExpectSameLosses(meshes, 1e-10);
}

TEST_F(MeshTest, LossesEqualOneRankInFp32) {
  std::vector<TinyOptions> meshes;
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      options.precision = proto::PrecisionConfig::FP32;
      meshes.push_back(options);
      options.sequence_parallel = options.shard_optimizer = options.recompute = true;
      options.micro_batch = 2;
      meshes.push_back(options);
    }
  }
  ExpectSameLosses(meshes, 1e-5);
}

TEST_F(MeshTest, LossesStayNearOneRankInBf16) {
  std::vector<TinyOptions> meshes;
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      options.precision = proto::PrecisionConfig::BF16;
      meshes.push_back(options);
      options.shard_optimizer = true;
      meshes.push_back(options);
    }
  }
  ExpectSameLosses(meshes, 5e-3);
}

// The tolerance allows for rounding to 8 bits, of shards with scales of their own.
TEST_F(MeshTest, LossesStayNearOneRankWithEightBitLayers) {
  std::vector<TinyOptions> meshes;
  for (TinyOptions options : Meshes()) {
    options.precision = proto::PrecisionConfig::BF16;
    options.fp8 = true;
    options.width = 64;
    options.head_dim = 16;
    options.feed_forward = 64;
    meshes.push_back(options);
    options.sequence_parallel = options.shard_optimizer = options.recompute = true;
    meshes.push_back(options);
  }
  ExpectSameLosses(meshes, 5e-2);
}

TEST_F(MeshTest, VocabularyThatFitsNoRankCountGivesTheSameLosses) {
  std::vector<TinyOptions> meshes;
  for (TinyOptions options : Meshes()) {
    for (const int64_t vocabulary : {5, 23, 127}) {
      options.vocabulary = vocabulary;
      meshes.push_back(options);
    }
  }
  ExpectSameLosses(meshes, 1e-10);
}

TEST_F(MeshTest, SameMeshTwiceGivesTheSameBits) {
  for (TinyOptions options : Meshes()) {
    options.precision = proto::PrecisionConfig::FP32;
    Replica first(options, world_), second(options, world_);
    const std::vector<double> losses = Losses(first), again = Losses(second);
    EXPECT_EQ(std::memcmp(losses.data(), again.data(), losses.size() * sizeof(double)), 0);
    const Tensor a = first.model().parameters().weights(), b = second.model().parameters().weights();
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0);
  }
}

struct Arithmetic {
  proto::PrecisionConfig::Kind precision;
  double tolerance;
};

// The index of the head in Heads, whether the mesh is sequence-parallel, and the arithmetic.
class LostGradientTest : public MeshTest, public ::testing::WithParamInterface<std::tuple<int, bool, Arithmetic>> {};

// Returns the input of a factorised head's vocabulary-sized factor, h Eᵀ, [N, R] row by row.
std::vector<double> ProjectedHidden(const Tensor& hidden, const Tensor& down) {
  std::vector<double> projected;
  for (int64_t n = 0; n < hidden.rows; ++n) {
    for (int64_t r = 0; r < down.rows; ++r) {
      double sum = 0;
      for (int64_t d = 0; d < down.columns; ++d) {
        sum += ElementOf(hidden, n * hidden.columns + d) * ElementOf(down, r * down.columns + d);
      }
      projected.push_back(sum);
    }
  }
  return projected;
}

HeadReference BruteForce(TinyOptions options) {
  std::vector<Range> shards;
  for (int rank = 0; rank < options.tensor; ++rank) {
    shards.push_back(ShardOf(options.vocabulary, options.tensor, rank));
  }
  TokenBatch batch = MakeBatch(options, 1);
  options.micro_batch = 0;
  Replica alone(options);
  TrainingModel& model = alone.model();
  EXPECT_TRUE(model.backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
  EXPECT_TRUE(model.loss().Evaluate(model.backbone().hidden(), PartOf(batch.targets, 0, 1)).ok());
  Tensor input = model.backbone().hidden();
  std::vector<double> projected;
  if (options.head_rank > 0) {
    const Tensor down = model.parameters().Weight("head.down.weight");
    projected = ProjectedHidden(input, down);
    input = Tensor(projected.data(), DType::kFloat64, input.rows, down.rows);
  }
  return DecomposeByBruteForce(input, model.loss().View()->weight, batch.targets, shards);
}

TEST_P(LostGradientTest, EqualsBruteForceProjection) {
  const auto& [head_index, sequence_parallel, arithmetic] = GetParam();
  for (const TinyOptions& mesh : Meshes()) {
    TinyOptions options = Heads(mesh)[static_cast<size_t>(head_index)];
    options.sequence_parallel = sequence_parallel;
    options.precision = arithmetic.precision;
    options.micro_batch = 2;
    SCOPED_TRACE(options.Name());
    Replica meshed(options, world_);
    const StepWithFigures result = meshed.Step(1, /*measure_head=*/true);
    const HeadReference reference = BruteForce(options);
    ASSERT_TRUE(result.head.has_value());
    const proto::HeadRecord& head = result.head->scalars;
    const std::vector<HeadPart>& parts = result.head->shards;
    const auto near = [tolerance = arithmetic.tolerance](double found, double expected) {
      EXPECT_NEAR(found, expected, tolerance * std::abs(expected));
    };
    near(head.lost_energy_ratio(), reference.lost_energy_ratio);
    near(head.logit_gradient_norm(), reference.logit_gradient_norm);
    near(head.retained_gradient_norm(), reference.retained_gradient_norm);
    near(std::pow(head.visible_cosine(), 2) + std::pow(head.lost_norm_ratio(), 2), 1.0);
    ASSERT_EQ(parts.size(), reference.shard_energy.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      near(parts[i].logit_gradient_energy, reference.shard_energy[i]);
      near(parts[i].retained_energy, reference.shard_retained[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HeadsAndArithmetic, LostGradientTest,
                         ::testing::Combine(::testing::Values(0, 1, 2), ::testing::Bool(),
                                            ::testing::Values(Arithmetic{proto::PrecisionConfig::FP64, 1e-10},
                                                              Arithmetic{proto::PrecisionConfig::FP32, 1e-4})));

// Compares every figure of the head's decomposition, measured while the step runs, with the decomposition of one
// process. That process has all of the tensors in fp64, and tests/decompose compares it with NumPy.
class MeasuredStep {
 public:
  explicit MeasuredStep(const TinyOptions& options, Communicator* world)
      : options_(options), meshed_(options, world), alone_(Whole(options)) {}

  // Changes the head's weights on all ranks alike: it maps (row, column, old value) to the new value.
  template <typename Change>
  void ChangeHead(const Change& change) {
    for (Replica* replica : {&meshed_, &alone_}) {
      const Tensor weight = replica->model().loss().View()->weight;
      const int64_t first = replica->model().loss().View()->rows.begin;
      for (int64_t i = 0; i < weight.size(); ++i) {
        const int64_t row = i / weight.columns, column = i % weight.columns;
        SetElement(weight, i, change(first + row, column, ElementOf(weight, i)));
      }
    }
  }

  HeadFigures Found() { return *meshed_.Step(1, /*measure_head=*/true).head; }

  HeadFigures Expected() {
    TokenBatch batch = MakeBatch(options_, 1);
    TrainingModel& model = alone_.model();
    EXPECT_TRUE(model.backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
    std::vector<double> hidden, weight, down;
    HeadTensors tensors;
    const Tensor all_hidden = Widened(model.backbone().hidden(), hidden);
    const Tensor all_weight = Widened(model.loss().View()->weight, weight);
    tensors.tokens = all_hidden.rows;
    tensors.vocabulary = all_weight.rows;
    for (int rank = 0; rank < options_.tensor; ++rank) {
      tensors.shards.push_back(ShardOf(options_.vocabulary, options_.tensor, rank));
      tensors.weights.push_back(all_weight.RowSlice(tensors.shards.back().begin, tensors.shards.back().size()));
    }
    std::vector<double> bias;
    if (const Tensor given = model.loss().View()->bias; given.defined()) {
      const Tensor all_bias = Widened(given, bias);
      for (const Range& rows : tensors.shards) tensors.biases.push_back(all_bias.RowSlice(rows.begin, rows.size()));
    }
    if (options_.head_rank > 0) tensors.down = Widened(model.loss().View()->down->weight, down);
    tensors.parts.push_back({all_hidden, PartOf(batch.targets, 0, 1), 0});
    const std::vector<uint64_t> counts = TinyCounts(options_);
    tensors.counts = counts;
    tensors.sample_tokens = options_.sample_tokens;
    tensors.form = LossFormOf(TinyConfig(options_).model());
    const auto self = MakeSelfCommunicator();
    const auto figures = DecomposeTensors(tensors, *self, *self);
    EXPECT_TRUE(figures.ok()) << figures.status();
    return *figures;
  }

 private:
  static TinyOptions Whole(TinyOptions options) {
    options.micro_batch = 0;
    return options;
  }
  static Tensor Widened(const Tensor& tensor, std::vector<double>& values) {
    for (int64_t i = 0; i < tensor.size(); ++i) values.push_back(ElementOf(tensor, i));
    return Tensor(values.data(), DType::kFloat64, tensor.rows, tensor.columns);
  }

  TinyOptions options_;
  Replica meshed_, alone_;
};

// Data ranks share the rows of the vocabulary, and so its bias, when they form G again.
TEST_F(MeshTest, HeadFiguresHoldForEveryFormOfTheLossAndOfTheRows) {
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      for (const char* head : {"soft_cap: 0.2 z_loss: 0.1", "bias: true", "row_scale: -0.3",
                               "soft_cap: 2 z_loss: 0.1 bias: true row_scale: 0.2"}) {
        options.head = head;
        if (options.tied && options.head.find("row_scale") != std::string::npos) continue;
        SCOPED_TRACE(options.Name());
        MeasuredStep step(options, world_);
        ExpectSameFigures(step.Found(), step.Expected(), 1e-9);
      }
    }
  }
}

TEST_F(MeshTest, EveryHeadFigureEqualsTheDecompositionOfTheWholeTensors) {
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      for (const int bits : Switches(3)) {
        options.sequence_parallel = (bits & 1) != 0;
        options.shard_optimizer = (bits & 2) != 0;
        options.micro_batch = (bits & 4) != 0 ? 2 : 0;
        for (const auto precision : {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32}) {
          options.precision = precision;
          options.sample_tokens = (bits & 4) != 0 ? 20 : 256;
          SCOPED_TRACE(options.Name());
          MeasuredStep step(options, world_);
          ExpectSameFigures(step.Found(), step.Expected(), precision == proto::PrecisionConfig::FP64 ? 1e-9 : 1e-4);
        }
      }
    }
  }
}

// The Gram matrix of these heads can't be factored as it is. They have fewer rows than columns, or a column that is
// another's twin. Others have a column that is a million times smaller than the rest, or in fp32 five thousand times.
TEST_F(MeshTest, HeadFiguresHoldForHeadsWithoutFullRankOrBadlyConditioned) {
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      options.precision = proto::PrecisionConfig::FP64;
      SCOPED_TRACE(options.Name());
      {
        TinyOptions few = options;
        few.vocabulary = 5;
        MeasuredStep step(few, world_);
        ExpectSameFigures(step.Found(), step.Expected(), 1e-8);
      }
      MeasuredStep deficient(options, world_), conditioned(options, world_);
      std::vector<double> twin(static_cast<size_t>(options.vocabulary));
      deficient.ChangeHead([&](int64_t row, int64_t column, double value) {
        double& first = twin[static_cast<size_t>(row)];
        if (column == 0) first = value;
        return column == 3 ? first : value;
      });
      const HeadFigures found = deficient.Found();
      EXPECT_EQ(found.scalars.numerical_rank(), found.width - 1);
      ExpectSameFigures(found, deficient.Expected(), 1e-8);
      TinyOptions narrow = options;
      narrow.precision = proto::PrecisionConfig::FP32;
      MeasuredStep narrow_conditioned(narrow, world_);
      narrow_conditioned.ChangeHead(
          [](int64_t, int64_t column, double value) { return column == 2 ? 2e-4 * value : value; });
      ExpectSameFigures(narrow_conditioned.Found(), narrow_conditioned.Expected(), 1e-4);
      conditioned.ChangeHead([](int64_t, int64_t column, double value) { return column == 2 ? 1e-6 * value : value; });
      ExpectSameFigures(conditioned.Found(), conditioned.Expected(), 1e-6);
    }
  }
}

// The rounding of A grows by the condition. fp32 bears a condition of some ten thousand, and so does bf16, because a
// measured step computes A in fp32.
TEST_F(MeshTest, HeadFiguresAreRightOrAbsentForDenselyConditionedHeads) {
  struct Case {
    proto::PrecisionConfig::Kind precision;
    std::vector<double> (*make)(int64_t, int64_t, double);
    double condition, tolerance;  // of figures: 0 where they must be absent
  };
  const Case cases[] = {
      {proto::PrecisionConfig::FP32, DenselyConditionedHead, 1e2, 1e-4},
      {proto::PrecisionConfig::FP32, DenselyConditionedHead, 3e3, 1e-3},
      {proto::PrecisionConfig::FP32, DenselyConditionedHead, 1e8, 0},
      {proto::PrecisionConfig::FP32, TwoScaleHead, 3e3, 1e-3},
      {proto::PrecisionConfig::FP32, TwoScaleHead, 1e7, 0},
      {proto::PrecisionConfig::BF16, TwoScaleHead, 3e2, 1e-2},
      {proto::PrecisionConfig::BF16, TwoScaleHead, 3e3, 1e-2},
      {proto::PrecisionConfig::BF16, TwoScaleHead, 1e7, 0},
  };
  for (const TinyOptions& mesh : Meshes()) {
    for (const Case& tried : cases) {
      TinyOptions options = mesh;
      options.precision = tried.precision;
      SCOPED_TRACE(absl::StrCat(options.Name(), " condition ", tried.condition));
      MeasuredStep step(options, world_);
      const std::vector<double> head = tried.make(options.vocabulary, options.width, tried.condition);
      step.ChangeHead(
          [&](int64_t row, int64_t column, double) { return head[static_cast<size_t>(row * options.width + column)]; });
      const HeadFigures found = step.Found(), expected = step.Expected();
      // Figures that do not need the projection are there in any case.
      EXPECT_NEAR(found.scalars.logit_gradient_norm() / expected.scalars.logit_gradient_norm(), 1, 1e-2);
      EXPECT_NEAR(found.scalars.target_energy_share() / expected.scalars.target_energy_share(), 1, 1e-2);
      if (tried.tolerance == 0) {
        EXPECT_THAT(found.not_measured, ::testing::HasSubstr("is beyond fp32"));
        EXPECT_FALSE(found.scalars.has_lost_norm_ratio());
        EXPECT_TRUE(std::isnan(found.shards.front().retained_energy));
        continue;
      }
      ASSERT_EQ(found.not_measured, "");
      const double tolerance = tried.tolerance;
      EXPECT_NEAR(found.scalars.visible_cosine() / expected.scalars.visible_cosine(), 1, tolerance);
      EXPECT_NEAR(found.scalars.lost_norm_ratio() / expected.scalars.lost_norm_ratio(), 1, tolerance);
      EXPECT_NEAR(found.scalars.sampled_retained_energy_ratio() / expected.scalars.sampled_retained_energy_ratio(), 1,
                  2 * tolerance);
      const double retained = std::pow(expected.scalars.retained_gradient_norm(), 2);
      const auto near = [&](const std::vector<HeadPart>& parts, const std::vector<HeadPart>& wanted) {
        ASSERT_EQ(parts.size(), wanted.size());
        for (size_t i = 0; i < parts.size(); ++i) {
          EXPECT_NEAR(parts[i].retained_energy / retained, wanted[i].retained_energy / retained, 2 * tolerance) << i;
        }
      };
      near(found.shards, expected.shards);
      near(found.buckets, expected.buckets);
    }
  }
}

// Rows of the head, and of its gradient, are taken 4,096 at a time.
TEST_F(MeshTest, HeadFiguresHoldForHeadsOfSeveralBlocksOfRows) {
  for (const TinyOptions& mesh : Meshes()) {
    for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      TinyOptions options = mesh;
      options.vocabulary = 6000 * world_->size();
      options.precision = precision;
      SCOPED_TRACE(options.Name());
      MeasuredStep step(options, world_);
      const HeadFigures found = step.Found(), expected = step.Expected();
      if (precision == proto::PrecisionConfig::FP32) {
        ExpectSameFigures(found, expected, 1e-4);
        continue;
      }
      constexpr double kTolerance = 1e-2;
      EXPECT_NEAR(found.scalars.update_cosine() / expected.scalars.update_cosine(), 1, kTolerance);
      EXPECT_NEAR(found.scalars.hidden_update_cosine() / expected.scalars.hidden_update_cosine(), 1, kTolerance);
      EXPECT_NEAR(found.scalars.visible_cosine() / expected.scalars.visible_cosine(), 1, kTolerance);
      EXPECT_TRUE(found.scalars.has_row_anisotropy());
      EXPECT_NEAR(found.scalars.row_anisotropy(), expected.scalars.row_anisotropy(), 1e-4);
      ASSERT_EQ(found.buckets.size(), expected.buckets.size());
      for (size_t i = 0; i < found.buckets.size(); ++i) {
        EXPECT_NEAR(found.buckets[i].retained_energy / expected.buckets[i].retained_energy, 1, 2 * kTolerance) << i;
      }
    }
  }
}

// Layer 0 receives the gradient of the embedded tokens, and every row of the table sums up its own.
TEST_F(MeshTest, FiguresOfLayersAreThoseOfOneRankAndGradientNormsThatOfTheEmbedding) {
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Variants(mesh)) {
      SCOPED_TRACE(options.Name());
      Replica meshed(options, world_);
      options.micro_batch = 0;
      Replica alone(options);
      const std::vector<LayerFigures> found = meshed.Step(1, true).layers, expected = alone.Step(1, true).layers;
      ASSERT_EQ(found.size(), 3u);
      for (const LayerFigures& layer : found) EXPECT_GT(layer.gradient_norm, 0);
      ExpectSameLayers(found, expected, 1e-10);
    }
  }
  TinyOptions options;
  options.vocabulary = 64;
  Replica alone(options);
  std::vector<int32_t> ids(64), targets(64, 3);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);  // every token once
  const auto result = alone.model().Step(
      {.ids = PartOf(ids, 0, 1), .targets = PartOf(targets, 0, 1), .step = 1, .learning_rate = 1e-3, .measure = true});
  ASSERT_TRUE(result.ok()) << result.status();
  const Tensor gradient = alone.model().parameters().Gradient("embedding.weight");
  double square = 0;
  for (int64_t i = 0; i < gradient.size(); ++i) square += std::pow(ElementOf(gradient, i), 2);
  EXPECT_NEAR(alone.decomposition().result().layers.front().gradient_norm / std::sqrt(square), 1, 1e-12);
}

// Measuring changes no bit of a run.
TEST_F(MeshTest, MeasuredStepsTrainTheSameBits) {
  for (const TinyOptions& mesh : Meshes()) {
    for (TinyOptions options : Heads(mesh)) {
      for (const int bits : Switches(3)) {
        options.shard_optimizer = (bits & 1) != 0;
        options.micro_batch = (bits & 2) != 0 ? 2 : 0;
        options.precision = (bits & 4) != 0 ? proto::PrecisionConfig::BF16 : proto::PrecisionConfig::FP32;
        SCOPED_TRACE(options.Name());
        Replica measured(options, world_), plain(options, world_);
        for (int64_t step = 1; step <= std::min<int64_t>(TestSteps(), 3); ++step) {
          EXPECT_EQ(measured.Step(step, true).loss, plain.Step(step, false).loss);
        }
        const Tensor a = measured.model().parameters().weights(), b = plain.model().parameters().weights();
        EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0);
      }
    }
  }
}

// The comparison would notice any figure that is wrong.
TEST_F(MeshTest, ComparisonOfHeadFiguresNoticesEachFault) {
  if (TestsAreFew()) GTEST_SKIP() << "compares numbers, which no sanitizer changes";
  TinyOptions options = Meshes().front();
  MeasuredStep step(options, world_);
  const HeadFigures figures = step.Found();
  EXPECT_EQ(FaultsThatGoUnnoticed(figures, 1e-4), "");
}

}  // namespace
}  // namespace isthmus::testing
