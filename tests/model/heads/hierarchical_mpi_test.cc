// ranks: 1 2 6
// Tests of the head with a softmax in two levels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "model/heads/levels/level_targets.h"
#include "model/heads/levels/two_levels.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

TinyOptions InLevels(const std::string& clusters, std::vector<int32_t> by_hand = {}) {
  TinyOptions options = PartOptions();
  options.head_kind = "hierarchical";
  options.head = "clusters { " + clusters + " }";
  options.clusters = std::move(by_hand);
  return options;
}

// Clusters of 101 tokens by hand: sizes 1, 2, 40, 58, so that shards of three
// ranks lack some.
std::vector<int32_t> UnevenClusters() {
  std::vector<int32_t> clusters(101, 3);
  clusters[100] = 0;
  clusters[5] = clusters[6] = 1;
  for (size_t token = 50; token < 90; ++token) clusters[token] = 2;
  return clusters;
}

std::vector<TinyOptions> LevelCases() {
  return {InLevels("kind: 'order' count: 7"), InLevels("kind: 'random' count: 10"),
          InLevels("kind: 'file' count: 4", UnevenClusters()),
          // The tokens of cluster 0 are in the first level.
          InLevels("kind: 'frequency' count: 4", UnevenClusters()), InLevels("kind: 'frequency' count: 3")};
}

TEST(TwoLevels, NumberClassesRankByRank) {
  const std::vector<int32_t> clusters = {1, -1, 0, 1, -1, 1, 0, 2};
  for (const int ranks : {1, 2, 3}) {
    SCOPED_TRACE(ranks);
    std::vector<int> first(5), members[3] = {std::vector<int>(2), std::vector<int>(3), std::vector<int>(1)};
    for (int rank = 0; rank < ranks; ++rank) {
      const TwoLevels levels(clusters, 3, ranks, rank);
      EXPECT_EQ(levels.first_level_classes(), 5);
      const Range own = ShardOf(8, ranks, rank);
      std::vector<int32_t> rows = levels.rows();
      ASSERT_EQ(static_cast<int64_t>(rows.size()), own.size());
      // This rank's classes of the first level are its clusters and then its
      // tokens without one.
      for (int64_t i = 0; i < levels.own_clusters().size() + levels.own_singles(); ++i) {
        ++first[static_cast<size_t>(levels.first_class() + i)];
      }
      for (int64_t i = 0; i < levels.own_singles(); ++i) {
        EXPECT_EQ(levels.first_class_of(rows[static_cast<size_t>(i)]),
                  levels.first_class() + levels.own_clusters().size() + i);
      }
      for (int64_t cluster = 0; cluster < 3; ++cluster) {
        const Range part = levels.rows_of(cluster);
        for (int64_t i = 0; i < part.size(); ++i) {
          const int32_t token = rows[static_cast<size_t>(part.begin + i)];
          EXPECT_EQ(clusters[static_cast<size_t>(token)], cluster);
          EXPECT_EQ(levels.member_of(token), levels.first_member(cluster) + i);
          ++members[cluster][static_cast<size_t>(levels.member_of(token))];
          const Range own_clusters = levels.own_clusters();
          if (cluster >= own_clusters.begin && cluster < own_clusters.end) {
            EXPECT_EQ(levels.first_class_of(token), levels.first_class() + cluster - own_clusters.begin);
          }
        }
      }
      std::sort(rows.begin(), rows.end());
      for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], own.begin + static_cast<int64_t>(i));
    }
    EXPECT_EQ(first, std::vector<int>(5, 1));
    for (const std::vector<int>& of_cluster : members) EXPECT_EQ(of_cluster, std::vector<int>(of_cluster.size(), 1));
  }
}

TEST(LevelTargets, AreOrderedByCluster) {
  const TwoLevels levels(std::vector<int32_t>{1, -1, 0, 1, -1, 1, 0, 2}, 3, 1, 0);
  const std::vector<int32_t> targets = {3, 1, 6, 0, 4, 2, 3};
  std::vector<int32_t> memory(kLevelRows * targets.size());
  const Tensor rows(memory.data(), DType::kInt32, kLevelRows, static_cast<int64_t>(targets.size()));
  const LevelTargets found = OrderTargets(levels, targets.data(), rows);
  const auto row = [&](LevelRow which, int64_t count) {
    const int32_t* values = rows.Row<int32_t>(which);
    return std::vector<int32_t>(values, values + count);
  };
  EXPECT_EQ(found.count, 5);
  EXPECT_EQ(row(kOrder, 5), (std::vector<int32_t>{2, 5, 0, 3, 6}));
  EXPECT_EQ(row(kMember, 5), (std::vector<int32_t>{1, 0, 1, 0, 1}));
  EXPECT_EQ(row(kPlace, 7), (std::vector<int32_t>{2, -1, 0, 3, -1, 1, 4}));
  EXPECT_EQ(row(kFirstClass, 7), (std::vector<int32_t>{1, 3, 0, 1, 4, 0, 1}));
  ASSERT_EQ(found.parts.size(), 2u);
  EXPECT_EQ(found.parts[0].cluster, 0);
  EXPECT_EQ(found.parts[0].places, (Range{0, 2}));
  EXPECT_EQ(found.parts[1].cluster, 1);
  EXPECT_EQ(found.parts[1].places, (Range{2, 5}));
}

// The clusters that a case has, with -1 for tokens of the first level.
std::vector<int32_t> ClustersOfCase(const TinyOptions& options) {
  std::vector<int32_t> clusters = options.clusters;
  if (clusters.empty()) clusters = *MakeClusters(TinyConfig(options), options.vocabulary, TinyCounts(options));
  if (TinyConfig(options).model().head().clusters().kind() != "frequency") return clusters;
  for (int32_t& cluster : clusters) --cluster;
  return clusters;
}

Eigen::RowVectorXd LogSoftmax(const Eigen::RowVectorXd& z) {
  const double largest = z.maxCoeff();
  return (z.array() - largest - std::log((z.array() - largest).exp().sum())).matrix();
}

// Loss and gradients on one rank by the formulas of all matrices.
struct LevelFormulas {
  LevelFormulas(const TinyOptions& options, TrainPass& pass);
  // Adds token `n`, whose target belongs to this cluster.
  void Add(Eigen::Index n, int32_t target, int32_t cluster);

  std::vector<Eigen::Index> singles;  // tokens of the first level
  std::vector<std::vector<Eigen::Index>> members;
  const double scale;
  const Matrix hidden, up;
  Matrix first_rows;  // clusters, then tokens of the first level
  Matrix grad_up, grad_first, grad_hidden;
  double loss = 0;
  double whole = 0;  // the sum of all tokens' probabilities, over all n
};

LevelFormulas::LevelFormulas(const TinyOptions& options, TrainPass& pass)
    : scale(pass.scale), hidden(pass.hidden), up(pass.Weight("head.weight")) {
  const std::vector<int32_t> clusters = ClustersOfCase(options);
  members.resize(static_cast<size_t>(*std::max_element(clusters.begin(), clusters.end())) + 1);
  for (size_t token = 0; token < clusters.size(); ++token) {
    (clusters[token] < 0 ? singles : members[static_cast<size_t>(clusters[token])])
        .push_back(static_cast<Eigen::Index>(token));
  }
  first_rows.resize(static_cast<Eigen::Index>(members.size() + singles.size()), hidden.cols());
  first_rows << pass.Weight("head.cluster.weight"), up(singles, Eigen::all);
  grad_up = Matrix::Zero(up.rows(), up.cols());
  grad_first = Matrix::Zero(first_rows.rows(), up.cols());
  grad_hidden = Matrix::Zero(hidden.rows(), hidden.cols());
  for (Eigen::Index n = 0; n < hidden.rows(); ++n) {
    const int32_t target = pass.targets[static_cast<size_t>(n)];
    Add(n, target, clusters[static_cast<size_t>(target)]);
  }
  grad_up(singles, Eigen::all) += grad_first.bottomRows(static_cast<Eigen::Index>(singles.size()));
}

void LevelFormulas::Add(Eigen::Index n, int32_t target, int32_t cluster) {
  const auto count = static_cast<Eigen::Index>(members.size());
  const Eigen::RowVectorXd h = hidden.row(n), first = LogSoftmax(h * first_rows.transpose());
  const auto single = std::lower_bound(singles.begin(), singles.end(), target) - singles.begin();
  const Eigen::Index first_target = cluster < 0 ? count + single : cluster;
  loss -= first(first_target);
  Eigen::RowVectorXd g = scale * first.array().exp().matrix();
  g(first_target) -= scale;
  grad_first += g.transpose() * h;
  grad_hidden.row(n) += g * first_rows;
  whole += first.tail(first.size() - count).array().exp().sum();
  for (Eigen::Index c = 0; c < count; ++c) {
    const std::vector<Eigen::Index>& tokens = members[static_cast<size_t>(c)];
    const Matrix rows = up(tokens, Eigen::all);
    const Eigen::RowVectorXd second = LogSoftmax(h * rows.transpose());
    whole += std::exp(first(c)) * second.array().exp().sum();
    if (c != cluster) continue;
    const auto place = std::lower_bound(tokens.begin(), tokens.end(), target) - tokens.begin();
    loss -= second(place);
    Eigen::RowVectorXd g2 = scale * second.array().exp().matrix();
    g2(place) -= scale;
    grad_up(tokens, Eigen::all) += g2.transpose() * h;
    grad_hidden.row(n) += g2 * rows;
  }
}

void ExpectFormulas(const TinyOptions& options) {
  SCOPED_TRACE(options.Name());
  TrainPass pass(options);
  const LevelFormulas expected(options, pass);
  // The probabilities of all tokens add up to one.
  EXPECT_NEAR(expected.whole, static_cast<double>(pass.hidden.rows()), 1e-9);
  EXPECT_NEAR(pass.sums.loss, expected.loss, 1e-10 * expected.loss);
  const auto expect = [](const Matrix& found, const Matrix& formula) {
    EXPECT_LE((found - formula).norm(), 1e-10 * formula.norm());
  };
  expect(pass.Gradient("head.weight"), expected.grad_up);
  expect(pass.Gradient("head.cluster.weight"),
         expected.grad_first.topRows(static_cast<Eigen::Index>(expected.members.size())));
  expect(pass.passed, expected.grad_hidden);
}

TEST(HierarchicalHead, FollowsTheFormulasOfTwoLevels) {
  for (const TinyOptions& options : LevelCases()) ExpectFormulas(options);
  ExpectFormulas(InLevels("kind: 'order' count: 101"));
}

// One cluster of all tokens is the softmax of the vocabulary, as a cluster for
// each token is.
TEST(HierarchicalHead, OfOneClusterIsTheFullHead) {
  Replica one(InLevels("kind: 'order' count: 1")), full(PartOptions());
  for (int64_t step = 1; step <= 4; ++step) {
    const double expected = full.Step(step).loss;
    EXPECT_NEAR(one.Step(step).loss, expected, 1e-10 * expected) << step;
  }
}

TEST(HierarchicalHead, WorksEverywhere) {
  for (const TinyOptions& options : SomeOf(LevelCases())) {
    SCOPED_TRACE(options.Name());
    if (!TestsAreFew()) {
      EXPECT_LT(WorstGradientError(options), 1e-6);
    }
    ExpectSameTrainingOnEveryMesh(options);
    ExpectPlannedMemory(options);
    ExpectResumeOnEveryMesh(options);
    ExpectSameFiguresOnEveryMesh(options);
  }
  // A plan spreads the targets evenly, as far as they are whole numbers.
  ExpectStatedProducts(InLevels("kind: 'order' count: 7"), /*rounding=*/1e-3);
}

// The host's log-probabilities, from which text is generated, give the loss of
// the two levels, at every mesh.
TEST(HierarchicalHead, LogitsAreTheLogProbabilitiesOfAllTokens) {
  for (TinyOptions options : LevelCases()) {
    options.tensor = World().size();
    if (options.tensor > 4) continue;
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    TrainingModel& model = replica.model();
    TokenBatch batch = MakeBatch(options, 1);
    const Tensor ids = PartOf(batch.ids, 0, 1), targets = PartOf(batch.targets, 0, 1);
    ASSERT_TRUE(model.backbone().Forward(ids).ok());
    ASSERT_TRUE(model.loss().ResetSums().ok());
    ASSERT_TRUE(model.loss().Evaluate(model.backbone().hidden(), targets).ok());
    const double expected = model.loss().Sums().value().loss;
    const Range own = ShardOf(options.vocabulary, options.tensor, replica.mesh().tensor_rank());
    double sums[2] = {0, 0};  // of target log-probabilities, and of all probabilities
    for (int64_t begin = 0; begin < ids.columns; begin += options.loss_chunk) {
      const int64_t count = std::min(options.loss_chunk, ids.columns - begin);
      const auto logits = model.loss().Logits(model.backbone().hidden().RowSlice(begin, count));
      ASSERT_TRUE(logits.ok()) << logits.status();
      for (int64_t n = 0; n < count; ++n) {
        const int32_t target = batch.targets[static_cast<size_t>(begin + n)];
        for (int64_t row = 0; row < own.size(); ++row) {
          const double value = logits->Row<double>(n)[row];
          sums[1] += std::exp(value);
          if (own.begin + row == target) sums[0] += value;
        }
      }
    }
    ASSERT_TRUE(replica.mesh().tensor().AllReduceNumbers(sums).ok());
    EXPECT_NEAR(-sums[0], expected, 1e-10 * expected);
    EXPECT_NEAR(sums[1], static_cast<double>(ids.columns), 1e-9);
  }
}

// A rank's first level may have more classes than the rank has rows.
TEST(HierarchicalHead, TheFirstLevelMayBeTheWidest) {
  std::vector<int32_t> halves(128, 1);
  std::fill_n(halves.begin(), 64, 0);
  TinyOptions options = InLevels("kind: 'frequency' count: 2", halves);
  options.vocabulary = 128;
  ExpectSameTrainingOnEveryMesh(options);
}

// A rehearsal is a measured micro-batch of no step.
TEST(HierarchicalHead, IsRehearsed) {
  for (const TinyOptions& options : LevelCases()) {
    Replica rehearsed(options), plain(options);
    const absl::Status status = rehearsed.model().Rehearse();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(rehearsed.Step(1, /*measure_head=*/true).loss, plain.Step(1).loss);
  }
}

TEST(HierarchicalHead, PrecisionsAgree) {
  for (TinyOptions options : LevelCases()) {
    const TinyOptions exact = options;
    options.tensor = World().size();
    if (options.tensor > 3) continue;
    for (const auto& [precision, tolerance] :
         {std::pair(proto::PrecisionConfig::FP32, 1e-5), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
      options.precision = precision;
      SCOPED_TRACE(options.Name());
      Replica narrow(options, &World()), reference(exact);
      for (int64_t step = 1; step <= 4; ++step) {
        const double expected = reference.Step(step).loss;
        EXPECT_NEAR(narrow.Step(step).loss, expected, tolerance * expected) << step;
      }
    }
  }
}

}  // namespace
}  // namespace isthmus::testing
