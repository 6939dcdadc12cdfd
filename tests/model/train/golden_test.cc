// Compares the whole model and its training with PyTorch (tools/golden/transformer.py): hidden states, logits, loss,
// every gradient, ten optimizer steps and the head's decomposition.
#include "tests/support/golden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "model/train/training_model.h"
#include "proto/telemetry.pb.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr double kFp64Tolerance = 2e-9;  // the golden tensors are kept to 5e-10 of their largest element
constexpr double kFp32Tolerance = 1e-5;

double ToleranceOf(DType dtype) { return dtype == DType::kFloat64 ? kFp64Tolerance : kFp32Tolerance; }

// Largest error of an element, relative to the largest element; NaN when one is.
double Error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double error = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(actual[i])) return actual[i];
    error = std::max(error, std::abs(actual[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / largest;
}

// Expects agreement, and proves that the comparison notices a fault in one element of a hundredth of the largest.
void ExpectAgrees(const std::string& name, const Tensor& actual, const GoldenTensor& expected, double tolerance) {
  SCOPED_TRACE(name);
  ASSERT_EQ(actual.rows, expected.rows);
  ASSERT_EQ(actual.columns, expected.columns);
  std::vector<double> values;
  for (int64_t row = 0; row < actual.rows; ++row) {
    for (int64_t column = 0; column < actual.columns; ++column) {
      values.push_back(ElementOf(actual.RowSlice(row, 1), column));
    }
  }
  EXPECT_LE(Error(values, expected.values), tolerance);
  double largest = 0;
  for (const double value : expected.values) largest = std::max(largest, std::abs(value));
  values[values.size() / 2] += 0.01 * largest;
  EXPECT_GT(Error(values, expected.values), tolerance) << "a fault went unnoticed";
}

// A model with the golden run's sizes, settings and initial weights.
class GoldenRun {
 public:
  GoldenRun(const std::string& variant, DType dtype) {
    auto golden = LoadGolden(variant);
    EXPECT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
    auto mesh = Mesh::Create(*world_, 1, 1);
    EXPECT_TRUE(mesh.ok()) << mesh.status();
    mesh_ = std::make_unique<Mesh>(*std::move(mesh));
    const proto::RunConfig config = Config(dtype);
    auto decomposition = HeadDecomposition::Create(config, *mesh_, stream_);
    EXPECT_TRUE(decomposition.ok()) << decomposition.status();
    decomposition_ = *std::move(decomposition);
    auto model = TrainingModel::Create(config, *mesh_, stream_, decomposition_.get());
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    EXPECT_TRUE(model_->InitializeWeights(0).ok());
    for (const ParameterSpec& spec : model_->parameters().specs()) {
      const GoldenTensor& initial = golden_.initial.at(spec.name);
      const Tensor weight = model_->parameters().Weight(spec.name);
      EXPECT_EQ(weight.size(), static_cast<int64_t>(initial.values.size())) << spec.name;
      for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, initial.values[static_cast<size_t>(i)]);
    }
  }

  const Golden& golden() const { return golden_; }
  TrainingModel& model() { return *model_; }
  Tensor Ids(size_t step) { return PartOf(golden_.ids[step], 0, 1); }
  Tensor Targets(size_t step) { return PartOf(golden_.targets[step], 0, 1); }
  StepWithFigures Step(size_t step, bool measure_head = false) {
    auto result = model_->Step({.ids = Ids(step),
                                .targets = Targets(step),
                                .step = static_cast<int64_t>(step) + 1,
                                .learning_rate = golden_.optimizer.at("learning_rate"),
                                .measure = measure_head});
    EXPECT_TRUE(result.ok()) << result.status();
    return WithFigures(*result, measure_head, decomposition_.get());
  }

 private:
  proto::RunConfig Config(DType dtype) const {
    proto::RunConfig config;
    auto& model = *config.mutable_model();
    const nlohmann::json& sizes = golden_.config;
    model.set_vocabulary(sizes.at("vocabulary"));
    model.set_width(sizes.at("width"));
    model.set_layers(sizes.at("layers"));
    model.set_heads(sizes.at("heads"));
    model.set_kv_heads(sizes.at("kv_heads"));
    model.set_head_dim(sizes.at("head_dim"));
    model.set_feed_forward(sizes.at("feed_forward"));
    model.set_rope_theta(sizes.at("rope_theta"));
    model.set_norm_epsilon(sizes.at("norm_epsilon"));
    model.set_tied_embeddings(sizes.at("tied_embeddings"));
    model.set_head_rank(sizes.at("head_rank"));
    config.mutable_mesh()->set_tensor(1);
    config.mutable_mesh()->set_data(1);
    config.mutable_data()->set_sequence_length(sizes.at("sequence_length"));
    config.mutable_batch()->set_sequences(sizes.at("sequences"));
    config.mutable_batch()->set_micro_batch(sizes.at("sequences"));
    auto& optimizer = *config.mutable_optimizer();
    optimizer.set_learning_rate(golden_.optimizer.at("learning_rate"));
    optimizer.set_beta1(golden_.optimizer.at("beta1"));
    optimizer.set_beta2(golden_.optimizer.at("beta2"));
    optimizer.set_epsilon(golden_.optimizer.at("epsilon"));
    optimizer.set_weight_decay(golden_.optimizer.at("weight_decay"));
    optimizer.set_clip_norm(golden_.optimizer.at("clip_norm"));
    auto& precision = *config.mutable_precision();
    precision.set_compute(dtype == DType::kFloat64 ? proto::PrecisionConfig::FP64 : proto::PrecisionConfig::FP32);
    precision.set_loss_chunk(7);
    return config;
  }

  Golden golden_;
  Stream stream_;
  std::unique_ptr<Communicator> world_ = MakeSelfCommunicator();
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<HeadDecomposition> decomposition_;
  std::unique_ptr<TrainingModel> model_;
};

class GoldenTest : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  std::string variant() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(GoldenTest, HiddenStatesLogitsLossAndGradientsAgree) {
  GoldenRun run(variant(), dtype());
  const Golden& golden = run.golden();
  TrainingModel& model = run.model();
  const double tolerance = ToleranceOf(dtype());
  ASSERT_TRUE(model.backbone().Forward(run.Ids(0)).ok());
  const Tensor hidden = model.backbone().hidden();
  ExpectAgrees("hidden", hidden, golden.hidden, tolerance);

  const int64_t length = golden.config.at("sequence_length");
  const auto logits = model.loss().Logits(hidden.RowSlice(0, length));
  ASSERT_TRUE(logits.ok());
  ExpectAgrees("logits", *logits, golden.logits, tolerance);

  const auto tokens = static_cast<double>(golden.ids[0].size());
  ASSERT_TRUE(model.loss()
                  .Train({.hidden = hidden,
                          .targets = run.Targets(0),
                          .scale = 1 / tokens,
                          .grad_hidden = model.backbone().grad_hidden()})
                  .ok());
  ASSERT_TRUE(model.backbone().Backward(run.Ids(0), nullptr).ok());
  EXPECT_NEAR(model.loss().Sums()->loss / tokens, golden.losses[0], tolerance * golden.losses[0]);
  EXPECT_EQ(golden.gradients.size(), model.parameters().specs().size());
  for (const ParameterSpec& spec : model.parameters().specs()) {
    ExpectAgrees(spec.name, model.parameters().Gradient(spec.name), golden.gradients.at(spec.name), tolerance);
  }
}

TEST_P(GoldenTest, TenOptimizerStepsAgree) {
  GoldenRun run(variant(), dtype());
  const Golden& golden = run.golden();
  // When it clips, PyTorch divides by the norm plus 1e-6, Isthmus by the norm. Adam's update hardly depends on the
  // scale of all gradients, but it does on the scale of one step against another.
  const double tolerance = dtype() == DType::kFloat64 ? 1e-6 : 1e-5;
  ASSERT_EQ(golden.losses.size(), 10u);
  int clipped = 0;
  for (size_t step = 0; step < golden.losses.size(); ++step) {
    SCOPED_TRACE(::testing::Message() << "step " << step);
    const StepResult result = run.Step(step);
    EXPECT_NEAR(result.loss, golden.losses[step], tolerance * golden.losses[step]);
    EXPECT_NEAR(result.gradient_norm, golden.gradient_norms[step], tolerance * golden.gradient_norms[step]);
    clipped += golden.gradient_norms[step] > golden.optimizer.at("clip_norm") ? 1 : 0;
  }
  EXPECT_GT(clipped, 0) << "no step was clipped";
  EXPECT_LT(golden.losses.back(), golden.losses.front());
  // If a gradient is almost zero, Adam divides rounding by rounding: in fp32 single elements drift further.
  const double drift = dtype() == DType::kFloat64 ? tolerance : 1e-4;
  for (const ParameterSpec& spec : run.model().parameters().specs()) {
    ExpectAgrees(spec.name, run.model().parameters().Weight(spec.name), golden.final.at(spec.name), drift);
  }
}

TEST_P(GoldenTest, HeadDecompositionAgrees) {
  GoldenRun run(variant(), dtype());
  const Golden& golden = run.golden();
  const StepWithFigures result = run.Step(0, /*measure_head=*/true);
  ASSERT_TRUE(result.head.has_value());
  const proto::HeadRecord& head = result.head->scalars;
  const nlohmann::json& expected =
      golden.decomposition_of_up.is_null() ? golden.decomposition : golden.decomposition_of_up;
  const double tolerance = dtype() == DType::kFloat64 ? 1e-10 : 1e-4;
  const auto expect = [&](const char* name, double actual) {
    const double value = expected.at(name);
    EXPECT_NEAR(actual, value, tolerance * std::abs(value)) << name;
    EXPECT_GT(std::abs(value), 0) << name;
  };
  expect("logit_gradient_norm", head.logit_gradient_norm());
  expect("retained_gradient_norm", head.retained_gradient_norm());
  expect("visible_cosine", head.visible_cosine());
  expect("lost_norm_ratio", head.lost_norm_ratio());
  expect("lost_energy_ratio", head.lost_energy_ratio());
  expect("isotropic_lost_norm_ratio", head.isotropic_lost_norm_ratio());
  expect("alignment_gain", head.alignment_gain());
  EXPECT_EQ(head.numerical_rank(), expected.at("head_numerical_rank").get<int64_t>());
  expect("lost_gradient_norm", head.lost_gradient_norm());
  expect("best_rank_energy_ratio", head.best_rank_energy_ratio());
  expect("best_double_rank_energy_ratio", head.best_double_rank_energy_ratio());
  // These are of both factors of a factorised head, and the golden figures of the first.
  if (!golden.decomposition_of_up.is_null()) return;
  expect("head_condition", head.condition());
  expect("update_cosine", head.update_cosine());
  expect("hidden_update_cosine", head.hidden_update_cosine());
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldenTest,
                         ::testing::Combine(::testing::Values("untied", "tied", "factorised"),
                                            ::testing::Values(DType::kFloat64, DType::kFloat32)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::string(Name(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace isthmus::testing
