// ranks: 1 2 4 6
// Tests of the head that trains by the softmax over a sample of the classes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/class_sample.h"
#include "model/heads/heads.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/recorded_step.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

constexpr uint64_t kSeed = 11;
constexpr int64_t kStep = 3;  // of those that formulas are checked for

TinyOptions SampledOptions(const std::string& stages, bool tied = false) {
  TinyOptions options = PartOptions();
  options.head_kind = "sampled";
  options.tied = tied;
  options.head = stages;
  return options;
}

std::vector<uint8_t> Flags(int64_t vocabulary, const std::vector<int32_t>& targets) {
  std::vector<uint8_t> flags(static_cast<size_t>(vocabulary));
  for (const int32_t target : targets) flags[static_cast<size_t>(target)] = 1;
  return flags;
}

TEST(ClassSample, HasAllTargetsAndNoClassTwice) {
  const std::vector<int32_t> targets = {3, 90, 41, 3};
  const std::vector<int32_t> sample = SampleClasses(Flags(101, targets), 20, kSeed, 5);
  EXPECT_EQ(sample.size(), 20u);
  EXPECT_THAT(sample, IsSupersetOf({3, 41, 90}));
  EXPECT_TRUE(std::is_sorted(sample.begin(), sample.end()));
  EXPECT_EQ(std::set<int32_t>(sample.begin(), sample.end()).size(), 20u);
  EXPECT_GE(sample.front(), 0);
  EXPECT_LT(sample.back(), 101);
}

TEST(ClassSample, IsAFunctionOfTargetsSeedAndStep) {
  const std::vector<uint8_t> flags = Flags(101, {7});
  const std::vector<int32_t> sample = SampleClasses(flags, 20, kSeed, 5);
  EXPECT_EQ(SampleClasses(flags, 20, kSeed, 5), sample);
  EXPECT_NE(SampleClasses(flags, 20, kSeed, 6), sample);
  EXPECT_NE(SampleClasses(flags, 20, kSeed + 1, 5), sample);
}

TEST(ClassSample, ConsistsOfTheTargetsIfTheyAreMore) {
  EXPECT_EQ(SampleClasses(Flags(10, {9, 2, 5}), 2, kSeed, 1), (std::vector<int32_t>{2, 5, 9}));
  EXPECT_EQ(SampleClasses(Flags(4, {1}), 9, kSeed, 1), (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(ClassSample, DrawsOthersWithEqualChances) {
  constexpr int kDraws = 4000;
  std::vector<int> drawn(50);
  for (int64_t step = 1; step <= kDraws; ++step) {
    for (const int32_t id : SampleClasses(Flags(50, {0}), 11, kSeed, step)) ++drawn[static_cast<size_t>(id)];
  }
  EXPECT_EQ(drawn[0], kDraws);
  // 10 of 49: five deviations of a count.
  const double chance = 10.0 / 49, deviation = std::sqrt(kDraws * chance * (1 - chance));
  for (size_t id = 1; id < drawn.size(); ++id) EXPECT_NEAR(drawn[id], kDraws * chance, 5 * deviation) << id;
}

// One step's head on one rank in fp64, beside the formulas.
void ExpectFormulas(const TinyOptions& options, int64_t classes) {
  SCOPED_TRACE(options.Name());
  TrainPass pass(options, kStep);
  const std::vector<int32_t> sample =
      SampleClasses(Flags(options.vocabulary, pass.targets), classes, TinyConfig(options).seed(), kStep);
  const Matrix weight = MatrixOf(pass.model().parameters().Weight(pass.model().loss().parameter()));
  const Matrix rows = weight(sample, Eigen::all);
  Matrix gradient = pass.hidden * rows.transpose();
  double loss = 0, energy = 0;
  for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
    const auto place = std::lower_bound(sample.begin(), sample.end(), pass.targets[static_cast<size_t>(n)]);
    const auto target = static_cast<Eigen::Index>(place - sample.begin());
    const Eigen::RowVectorXd e = gradient.row(n).array().exp();
    loss += std::log(e.sum()) - gradient(n, target);
    gradient.row(n) = e / e.sum();
    gradient(n, target) -= 1;
    energy += gradient.row(n).squaredNorm();
  }
  gradient *= pass.scale;
  EXPECT_NEAR(pass.sums.loss, loss, 1e-10 * loss);
  EXPECT_NEAR(pass.sums.energy[0], energy, 1e-10 * energy);
  Matrix expected = Matrix::Zero(weight.rows(), weight.cols());
  expected(sample, Eigen::all) = gradient.transpose() * pass.hidden;
  const Matrix found = pass.WeightGradient();
  EXPECT_LT((found - expected).norm(), 1e-10 * expected.norm());
  for (Eigen::Index row = 0; row < weight.rows(); ++row) {
    const bool sampled = std::binary_search(sample.begin(), sample.end(), row);
    EXPECT_EQ(found.row(row).norm() > 0, sampled) << row;
  }
  const Matrix passed = gradient * rows;
  EXPECT_LT((pass.passed - passed).norm(), 1e-10 * passed.norm());
}

TEST(SampledHead, FollowsTheFormulasOfItsSample) {
  for (const bool tied : {false, true}) {
    ExpectFormulas(SampledOptions("sampled { classes: 60 }", tied), 60);
    // The targets alone are more.
    ExpectFormulas(SampledOptions("sampled { classes: 3 }", tied), 3);
  }
}

TEST(SampledHead, GradientsMatchFiniteDifferences) {
  for (const bool tied : {false, true}) {
    EXPECT_LT(WorstGradientError(SampledOptions("sampled { classes: 60 }", tied)), 1e-6);
  }
}

// From the whole vocabulary to fewer classes, so that the loss of one stage is below that of the one before.
constexpr char kStages[] =
    "sampled { classes: 0 } sampled { from_step: 3 classes: 80 } sampled { from_step: 5 classes: 55 }";

TEST(SampledHead, EveryMeshTrainsAsOneRank) {
  ExpectSameTrainingOnEveryMesh(SampledOptions(kStages));
  ExpectSameTrainingOnEveryMesh(SampledOptions("sampled { classes: 70 }", /*tied=*/true));
}

TEST(SampledHead, PlansCheckpointsAndFiguresHold) {
  TinyOptions options = SampledOptions("sampled { classes: 70 }");
  ExpectPlannedMemory(options);
  ExpectStatedProducts(options);
  ExpectResumeOnEveryMesh(SampledOptions(kStages));
  ExpectSameFiguresOnEveryMesh(options);
  ExpectSameFiguresOnEveryMesh(SampledOptions("sampled { classes: 0 } sampled { from_step: 2 classes: 70 }"));
  ExpectSameFiguresOnEveryMesh(SampledOptions("sampled { classes: 70 } sampled { from_step: 2 }"));
  ExpectSameFiguresOnEveryMesh(SampledOptions("sampled { classes: 70 }", /*tied=*/true));
}

// A dry run knows no targets, so that other ranks than a lone one have other numbers of classes in it.
TEST(SampledHead, APlannedStepHasTheCallsOfARealOne) {
  TinyOptions options = SampledOptions("sampled { classes: 90 }");
  options.data = World().size();
  if (options.data > 2) GTEST_SKIP() << "one and two data ranks show it";
  ExpectSameCalls(options, /*measure=*/false);
}

// The figures of a step with a sample are those of a head with the sample's rows, by a singular value decomposition.
TEST(SampledHead, FiguresAreThoseOfTheSampledRows) {
  for (const int64_t classes : {70, 60}) {
    const TinyOptions options = SampledOptions("sampled { classes: " + std::to_string(classes) + " }");
    Replica replica(options);
    TrainingModel& model = replica.model();
    TokenBatch batch = MakeBatch(options, 1);
    ASSERT_TRUE(model.backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
    const Matrix hidden = MatrixOf(model.backbone().hidden());
    const std::vector<int32_t> sample =
        SampleClasses(Flags(options.vocabulary, batch.targets), classes, TinyConfig(options).seed(), 1);
    const Matrix rows = MatrixOf(model.parameters().Weight(model.loss().parameter()))(sample, Eigen::all);
    Matrix gradient = hidden * rows.transpose();
    double loss = 0;
    for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
      const auto place = std::lower_bound(sample.begin(), sample.end(), batch.targets[static_cast<size_t>(n)]);
      const auto target = static_cast<Eigen::Index>(place - sample.begin());
      const Eigen::RowVectorXd e = gradient.row(n).array().exp();
      loss += (std::log(e.sum()) - gradient(n, target)) / static_cast<double>(gradient.rows());
      gradient.row(n) = e / e.sum();
      gradient(n, target) -= 1;
    }
    gradient /= static_cast<double>(gradient.rows());
    const Eigen::BDCSVD<Eigen::MatrixXd> svd(rows, Eigen::ComputeThinU);
    const double visible = (gradient * svd.matrixU()).norm() / gradient.norm();
    const Matrix passed = gradient * rows;

    const StepWithFigures step = replica.Step(1, /*measure_head=*/true);
    ASSERT_TRUE(step.head.has_value() && step.head->linear);
    const proto::HeadRecord& found = step.head->scalars;
    EXPECT_EQ(step.head->vocabulary, static_cast<int64_t>(sample.size()));
    EXPECT_NEAR(step.head->loss, loss, 1e-10 * loss);
    EXPECT_NEAR(found.logit_gradient_norm(), gradient.norm(), 1e-10 * gradient.norm());
    EXPECT_NEAR(found.visible_cosine(), visible, 1e-9);
    EXPECT_NEAR(found.isotropic_lost_norm_ratio(), std::sqrt(1 - 24.0 / static_cast<double>(sample.size())), 1e-12);
    EXPECT_NEAR(found.hidden_update_cosine(),
                passed.squaredNorm() / (gradient.norm() * (passed * rows.transpose()).norm()), 1e-9);
    EXPECT_NEAR(found.gradient_norm(), (gradient.transpose() * hidden).norm(), 1e-9);
    double energy = 0;
    int64_t in_buckets = 0;
    for (const HeadPart& bucket : step.head->buckets) {
      energy += bucket.logit_gradient_energy;
      in_buckets += bucket.rows;
    }
    EXPECT_EQ(in_buckets, step.head->vocabulary);
    EXPECT_NEAR(energy, gradient.squaredNorm(), 1e-10);
  }
}

TEST(SampledHead, MeasuredStepsTrainTheSameBits) {
  for (const auto precision : {proto::PrecisionConfig::FP64, proto::PrecisionConfig::BF16}) {
    TinyOptions options = SampledOptions(kStages);
    options.precision = precision;
    options.micro_batch = 2;
    Replica measured(options), plain(options);
    for (int64_t step = 1; step <= 6; ++step) {
      EXPECT_EQ(measured.Step(step, /*measure_head=*/step != 4).loss, plain.Step(step).loss) << step;
    }
  }
}

TEST(SampledHead, OfTiedEmbeddingsSaysWhyAStepIsNotMeasured) {
  Replica replica(SampledOptions("sampled { classes: 70 } sampled { from_step: 2 }", /*tied=*/true));
  const StepWithFigures sampled = replica.Step(1, /*measure_head=*/true), whole = replica.Step(2, true);
  ASSERT_TRUE(sampled.head.has_value() && whole.head.has_value());
  EXPECT_FALSE(sampled.head->linear);
  EXPECT_THAT(sampled.head->not_measured, HasSubstr("over a sample of the rows of tied embeddings"));
  EXPECT_TRUE(whole.head->linear);
}

TEST(SampledHead, OfTheWholeVocabularyHasTheFullHeadsBits) {
  for (const char* stages : {"sampled { classes: 0 }", "sampled { classes: 101 }", "sampled { classes: 100000 }"}) {
    Replica sampled(SampledOptions(stages)), full(PartOptions());
    for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(sampled.Step(step).loss, full.Step(step).loss) << step;
  }
}

// Evaluation is over the whole vocabulary.
TEST(SampledHead, EvaluatesAsTheFullHead) {
  const TinyOptions options = SampledOptions("sampled { classes: 60 }");
  Replica sampled(options), full(PartOptions());
  TokenBatch batch = MakeBatch(options, 1);
  const auto evaluate = [&](Replica& replica) {
    return replica.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1)).value();
  };
  const double expected = evaluate(full);
  EXPECT_EQ(evaluate(sampled), expected);
  EXPECT_LT(sampled.Step(1).loss, 0.99 * expected);  // the loss of fewer classes
}

TEST(SampledHead, IsRehearsed) {
  for (const bool tied : {false, true}) {
    const TinyOptions options = SampledOptions("sampled { classes: 70 }", tied);
    Replica rehearsed(options), plain(options);
    ASSERT_TRUE(rehearsed.model().Rehearse().ok());
    EXPECT_EQ(rehearsed.Step(1, /*measure_head=*/true).loss, plain.Step(1).loss);
  }
}

TEST(SampledHead, PrecisionsAgree) {
  TinyOptions options = SampledOptions("sampled { classes: 70 }");
  options.tensor = World().size();
  if (options.tensor > 3) GTEST_SKIP() << "three tensor ranks at most";
  for (const auto& [precision, tolerance] :
       {std::pair(proto::PrecisionConfig::FP32, 1e-5), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
    options.precision = precision;
    Replica narrow(options, &World()), reference(SampledOptions("sampled { classes: 70 }"));
    for (int64_t step = 1; step <= 4; ++step) {
      const double expected = reference.Step(step).loss;
      EXPECT_NEAR(narrow.Step(step).loss, expected, tolerance * expected) << step;
    }
  }
}

TEST(SampledHead, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& head, const std::string& kind = "sampled", int64_t rank = 0) {
    TinyOptions options = PartOptions();
    options.head_kind = kind;
    options.head = head;
    options.head_rank = rank;
    return std::string(CheckHead(TinyConfig(options).model(), "here").message());
  };
  EXPECT_EQ(refusal("sampled { classes: 5 } sampled { from_step: 9 classes: 0 }"), "");
  EXPECT_THAT(refusal(""), HasSubstr("here: model.head.sampled: empty; a head of kind sampled needs a stage"));
  EXPECT_THAT(refusal("sampled { from_step: 2 }"), HasSubstr("from_step: 2; accepts 1 for the first stage"));
  EXPECT_THAT(refusal("sampled { } sampled { from_step: 1 }"), HasSubstr("from_step: 1; accepts steps after 1"));
  EXPECT_THAT(refusal("sampled { classes: -1 }"), HasSubstr("classes: -1; accepts 0"));
  EXPECT_THAT(refusal("sampled { classes: 5 }", "full"), HasSubstr("only a head of kind sampled has them"));
  EXPECT_THAT(refusal("sampled { classes: 5 }", "sampled", 4), HasSubstr("a head of kind sampled accepts 0"));
  EXPECT_THAT(refusal("sampled { classes: 5 } backward { kind: 'random' }"), HasSubstr("set those to their defaults"));
}

}  // namespace
}  // namespace isthmus::testing
