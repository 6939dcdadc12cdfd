// ranks: 1 2 6
// Tests of the head that copies earlier tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/token_jacobians.h"
#include "model/model.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

// Few tokens, so that sequences repeat them; three ranks share them unevenly.
TinyOptions Copying(const std::string& more = "") {
  TinyOptions options = PartOptions();
  options.head_kind = "copy";
  options.head = "copy_width: 7 " + more;
  options.vocabulary = 23;
  return options;
}

void ScaleWeight(const Tensor& weight, double factor) {
  for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, factor * ElementOf(weight, i));
}

// Weights of a head that copies much, from some positions more than from others.
void CopyMuch(ParameterStore& parameters) {
  for (const char* name : {"head.query.weight", "head.key.weight"}) ScaleWeight(parameters.Weight(name), 3);
  ScaleWeight(parameters.Weight("head.slot.weight"), 10);
  SetElement(parameters.Weight("head.sink"), 0, 0.6);
}

// Loss and gradients on one rank by the definition, with the derivatives by masses and probabilities themselves. Every
// term of a gradient has a place of its own here.
struct CopyFormulas {
  CopyFormulas(const TinyOptions& options, TrainPass& pass);
  // Adds the token n, whose sequence begins at `first`.
  void Add(Eigen::Index n, Eigen::Index first, TrainPass& pass);

  const LossForm form;
  const Matrix hidden, up, query, key, slot;
  const double sink, scale;
  Matrix grad_hidden, grad_up, grad_query, grad_key, grad_slot;
  Matrix grad_own;                               // of each hidden state by the loss of its own token
  std::vector<Eigen::VectorXd> vocabulary;       // of each token by the vocabulary's logits
  std::vector<Eigen::VectorXd> slot_and_scores;  // and by the slot, the sink and the positions
  double grad_sink = 0, loss = 0;
  double copied = 0;         // Σ_n σ (1 - a_n0)
  double probabilities = 0;  // Σ_n Σ_v P_n(v)
};

CopyFormulas::CopyFormulas(const TinyOptions& options, TrainPass& pass)
    : form(LossFormOf(TinyConfig(options).model())),
      hidden(pass.hidden),
      up(pass.Weight("head.weight")),
      query(pass.Weight("head.query.weight")),
      key(pass.Weight("head.key.weight")),
      slot(pass.Weight("head.slot.weight")),
      sink(pass.Weight("head.sink")(0, 0)),
      scale(pass.scale) {
  for (const auto& [gradient, like] :
       {std::pair(&grad_hidden, &hidden), std::pair(&grad_own, &hidden), std::pair(&grad_up, &up),
        std::pair(&grad_query, &query), std::pair(&grad_key, &key), std::pair(&grad_slot, &slot)}) {
    *gradient = Matrix::Zero(like->rows(), like->cols());
  }
  for (Eigen::Index n = 0; n < hidden.rows(); ++n) Add(n, n / options.sequence_length * options.sequence_length, pass);
}

void CopyFormulas::Add(Eigen::Index n, Eigen::Index first, TrainPass& pass) {
  const Eigen::VectorXd h = hidden.row(n);
  Eigen::VectorXd z = up * h, slopes(z.size());
  for (Eigen::Index v = 0; v < z.size(); ++v) {
    z(v) = form.Capped(z(v));
    slopes(v) = form.Slope(z(v));
  }
  const double log_sum_exp = std::log(z.array().exp().sum());
  const Eigen::VectorXd p = (z.array() - log_sum_exp).exp();
  const double share = 1 / (1 + std::exp(log_sum_exp - slot.row(0).dot(h)));
  const Eigen::Index count = n + 1 - first, target = pass.targets[static_cast<size_t>(n)];
  const Eigen::VectorXd q = query * h;
  const double root = std::sqrt(static_cast<double>(query.rows()));
  const Eigen::VectorXd weights = (hidden.middleRows(first, count) * key.transpose() * q / root).array().exp();
  const double total = std::exp(sink) + weights.sum(), sink_mass = std::exp(sink) / total;
  const Eigen::VectorXd masses = weights / total;
  Eigen::VectorXd match(count), mixed = p * (1 - share * (1 - sink_mass));
  for (Eigen::Index j = 0; j < count; ++j) {
    const int32_t id = pass.ids[static_cast<size_t>(first + j)];
    match(j) = id == target ? 1 : 0;
    mixed(id) += share * masses(j);
  }
  const double matched = match.dot(masses), kept = 1 - share * (1 - sink_mass);
  loss -= std::log(mixed(target));
  copied += share * (1 - sink_mass);
  probabilities += mixed.sum();

  const double by_share = -(matched - p(target) * (1 - sink_mass)) / mixed(target);
  const double by_sink = -p(target) * share / mixed(target), by_match = -share / mixed(target);
  const double by_slot = by_share * share * (1 - share);
  const double of_vocabulary = p(target) * kept / mixed(target);
  Eigen::VectorXd g = (of_vocabulary - by_slot + 2 * form.z_loss * log_sum_exp) * p;
  g(target) -= of_vocabulary;
  g = scale * g.cwiseProduct(slopes);
  // The softmax of the scores: Σ_i a_i ∂/∂a_i is taken from each.
  const double mean = by_sink * sink_mass + by_match * matched;
  const Eigen::VectorXd by_score = scale / root * masses.cwiseProduct((by_match * match.array() - mean).matrix());
  grad_sink += scale * sink_mass * (by_sink - mean);
  grad_up += g * h.transpose();
  grad_slot += scale * by_slot * h.transpose();
  const Matrix earlier = hidden.middleRows(first, count);
  const Eigen::VectorXd grad_q = key * (earlier.transpose() * by_score);
  grad_query += grad_q * h.transpose();
  grad_key += q * (earlier.transpose() * by_score).transpose();
  const Eigen::RowVectorXd by_query =
      (up.transpose() * g + scale * by_slot * slot.row(0).transpose() + query.transpose() * grad_q).transpose();
  const Matrix by_keys = by_score * (key.transpose() * q).transpose();
  grad_hidden.row(n) += by_query;
  grad_hidden.middleRows(first, count) += by_keys;
  grad_own.row(n) = by_query + by_keys.row(count - 1);
  vocabulary.push_back(g / scale);
  slot_and_scores.emplace_back(2 + count);
  slot_and_scores.back() << by_slot, sink_mass * (by_sink - mean), by_score * root / scale;
}

// Expects agreement of a gradient that is not next to nothing.
void ExpectFormula(const char* what, const Matrix& found, const Matrix& formula) {
  EXPECT_LE((found - formula).norm(), 1e-10 * formula.norm()) << what;
  EXPECT_GT(formula.norm(), 1e-4) << what << " is next to nothing";
}

TEST(CopyHead, FollowsTheFormulasOfItsMixture) {
  for (const char* more : {"", "soft_cap: 0.7 z_loss: 0.3"}) {
    const TinyOptions options = Copying(more);
    SCOPED_TRACE(options.Name());
    TrainPass pass(options, 1, CopyMuch);
    const CopyFormulas expected(options, pass);
    const auto tokens = static_cast<double>(pass.hidden.rows());
    EXPECT_NEAR(expected.probabilities, tokens, 1e-9);
    EXPECT_GT(expected.copied, 0.1 * tokens);
    EXPECT_LT(expected.copied, 0.9 * tokens);
    EXPECT_NEAR(pass.sums.loss, expected.loss, 1e-10 * expected.loss);
    ExpectFormula("hidden", pass.passed, expected.grad_hidden);
    ExpectFormula("weight", pass.Gradient("head.weight"), expected.grad_up);
    ExpectFormula("query", pass.Gradient("head.query.weight"), expected.grad_query);
    ExpectFormula("key", pass.Gradient("head.key.weight"), expected.grad_key);
    ExpectFormula("slot", pass.Gradient("head.slot.weight"), expected.grad_slot);
    ExpectFormula("sink", pass.Gradient("head.sink"), Matrix::Constant(1, 1, expected.grad_sink));
  }
}

// A token's gradients by its own outputs, on every tensor rank: those of the formulas. They come back as the part of the
// hidden state's gradient that is of its own loss.
TEST(CopyHead, TokensHaveTheGradientsOfTheirOwnOutputs) {
  if (World().size() > 3) return;
  for (const char* more : {"", "soft_cap: 0.7 z_loss: 0.3"}) {
    TinyOptions options = Copying(more);
    TrainPass pass(options, 1, CopyMuch);
    const CopyFormulas expected(options, pass);
    options.tensor = World().size();
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    CopyMuch(replica.model().parameters());
    const auto view = replica.model().loss().View();
    ASSERT_TRUE(view.ok() && view->jacobians != nullptr);
    replica.model().loss().TakeInputs(Tensor(pass.ids.data(), DType::kInt32, 1, pass.hidden.rows()));
    const Range own = ShardOf(options.vocabulary, options.tensor, replica.mesh().tensor_rank());
    const bool first = replica.mesh().tensor_rank() == 0;
    std::vector<int64_t> places(pass.targets.size());
    std::iota(places.begin(), places.end(), 0);
    const auto tokens = PlacedTokens::Of(TensorOf(pass.hidden), places, pass.targets, Stream());
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    Eigen::Index n = 0;
    const auto visit = [&](const TokenJacobian& token) -> absl::Status {
      const auto of_token = static_cast<size_t>(n);
      Eigen::VectorXd gradient = expected.vocabulary[of_token].segment(own.begin, own.size());
      if (first) {
        gradient.conservativeResize(own.size() + expected.slot_and_scores[of_token].size());
        gradient.tail(expected.slot_and_scores[of_token].size()) = expected.slot_and_scores[of_token];
      }
      EXPECT_EQ(token.gradient.size(), gradient.size());
      EXPECT_EQ(token.logits->rows(), gradient.size());
      EXPECT_LE((token.gradient - gradient).norm(), 1e-10 * gradient.norm()) << n;
      Eigen::VectorXd passed = token.logits->transpose() * token.gradient;
      const absl::Status status = SumOver(replica.mesh().tensor(), passed);
      const Eigen::VectorXd wanted = expected.grad_own.row(n++).transpose() / expected.scale;
      EXPECT_LE((passed - wanted).norm(), 1e-10 * wanted.norm()) << n;
      return status;
    };
    ASSERT_TRUE(view->jacobians->Visit(*tokens, visit).ok());
    EXPECT_EQ(n, pass.hidden.rows());
  }
}

// A sink with all of the mass leaves the softmax of the vocabulary, whatever the slot has.
TEST(CopyHead, WithoutMassOnPositionsIsTheFullHead) {
  TinyOptions full = Copying();
  full.head_kind = "full";
  full.head = "";
  TrainPass pass(Copying(), 1, [](ParameterStore& parameters) {
    CopyMuch(parameters);
    SetElement(parameters.Weight("head.sink"), 0, 60);
  });
  TrainPass expected(full);
  EXPECT_NEAR(pass.sums.loss, expected.sums.loss, 1e-10 * expected.sums.loss);
  EXPECT_LE((pass.Gradient("head.weight") - expected.Gradient("head.weight")).norm(),
            1e-10 * expected.Gradient("head.weight").norm());
  EXPECT_LE((pass.passed - expected.passed).norm(), 1e-10 * expected.passed.norm());
}

TEST(CopyHead, WorksEverywhere) { CheckPart(Copying()); }

TEST(CopyHead, TrainsWithACapAndAZLossOnEveryMesh) {
  const TinyOptions options = Copying("soft_cap: 3 z_loss: 0.1");
  EXPECT_LT(WorstGradientError(options), 1e-6);
  ExpectSameTrainingOnEveryMesh(options);
}

// A slot that is wanted: with the weights of CopyMuch the ranks of every mesh give the gradients of one rank.
TEST(CopyHead, HasTheSameGradientsOnEveryMesh) {
  for (const int tensor : {1, 2, 3}) {
    if (World().size() != tensor) continue;
    for (const bool sequence_parallel : {false, true}) {
      TinyOptions options = Copying();
      TrainPass expected(options, 1, CopyMuch);
      options.tensor = tensor;
      options.sequence_parallel = sequence_parallel;
      SCOPED_TRACE(options.Name());
      Replica meshed(options, &World());
      CopyMuch(meshed.model().parameters());
      TokenBatch batch = MakeBatch(options, 1);
      ChunkedLoss& loss = meshed.model().loss();
      const Tensor ids = PartOf(batch.ids, 0, 1);
      ASSERT_TRUE(meshed.model().backbone().Forward(ids).ok());
      const Tensor grad_hidden = meshed.model().backbone().grad_hidden();
      ASSERT_TRUE(loss.Train({.hidden = meshed.model().backbone().hidden(),
                              .targets = PartOf(batch.targets, 0, 1),
                              .ids = ids,
                              .scale = expected.scale,
                              .grad_hidden = grad_hidden})
                      .ok());
      for (const char* name : {"head.query.weight", "head.key.weight", "head.slot.weight", "head.sink"}) {
        const Matrix found = MatrixOf(meshed.model().parameters().Gradient(name)), one = expected.Gradient(name);
        EXPECT_LE((found - one).norm(), 1e-10 * one.norm()) << name;
      }
      const int64_t local = sequence_parallel ? ids.columns / tensor : ids.columns;
      const int64_t first = sequence_parallel ? meshed.mesh().tensor_rank() * local : 0;
      const Matrix passed = MatrixOf(grad_hidden.RowSlice(first, local));
      EXPECT_LE((passed - expected.passed.middleRows(first, local)).norm(), 1e-10 * expected.passed.norm());
    }
  }
}

// The host's log-probabilities, from which text is generated, give the loss, at every mesh.
TEST(CopyHead, LogitsAreTheLogProbabilitiesOfAllTokens) {
  for (const char* more : {"", "soft_cap: 0.7"}) {
    TinyOptions options = Copying(more);
    options.tensor = World().size();
    if (options.tensor > 4) continue;
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    TrainingModel& model = replica.model();
    CopyMuch(model.parameters());
    TokenBatch batch = MakeBatch(options, 1);
    const Tensor ids = PartOf(batch.ids, 0, 1), targets = PartOf(batch.targets, 0, 1);
    ASSERT_TRUE(model.backbone().Forward(ids).ok());
    ASSERT_TRUE(model.loss().ResetSums().ok());
    ASSERT_TRUE(model.loss().Evaluate(model.backbone().hidden(), targets, ids).ok());
    const double expected = model.loss().Sums().value().loss;
    const Range own = ShardOf(options.vocabulary, options.tensor, replica.mesh().tensor_rank());
    double sums[2] = {0, 0};  // of target log-probabilities, and of all probabilities
    for (int64_t n = 0; n < ids.columns; ++n) {
      const auto logits = model.loss().LogitsOf(n, model.backbone().hidden(), ids);
      ASSERT_TRUE(logits.ok()) << logits.status();
      for (int64_t row = 0; row < own.size(); ++row) {
        const double value = logits->Row<double>(0)[row];
        sums[1] += std::exp(value);
        if (own.begin + row == batch.targets[static_cast<size_t>(n)]) sums[0] += value;
      }
    }
    ASSERT_TRUE(replica.mesh().tensor().AllReduceNumbers(sums).ok());
    EXPECT_NEAR(-sums[0], expected, 1e-10 * expected);
    EXPECT_NEAR(sums[1], static_cast<double>(ids.columns), 1e-9);
  }
}

// The weights of CopyMuch make a step's loss depend on the one before too much for bf16: there it is the first that shows
// whether copies are right, and further ones show it from the initial weights.
TEST(CopyHead, PrecisionsAgree) {
  TinyOptions options = Copying();
  const TinyOptions exact = options;
  options.tensor = World().size();
  if (options.tensor > 3) return;
  for (const auto& [precision, tolerance, steps_of_copies] :
       {std::tuple(proto::PrecisionConfig::FP32, 1e-5, 4), std::tuple(proto::PrecisionConfig::BF16, 1e-2, 1)}) {
    options.precision = precision;
    SCOPED_TRACE(options.Name());
    for (const bool copies : {false, true}) {
      Replica narrow(options, &World()), reference(exact);
      if (copies) CopyMuch(reference.model().parameters());
      if (copies) CopyMuch(narrow.model().parameters());
      for (int64_t step = 1; step <= (copies ? steps_of_copies : 4); ++step) {
        const double expected = reference.Step(step).loss;
        EXPECT_NEAR(narrow.Step(step).loss, expected, tolerance * expected) << step;
      }
    }
  }
}

// A rehearsal is a measured micro-batch of no step.
TEST(CopyHead, IsRehearsed) {
  Replica rehearsed(Copying()), plain(Copying());
  const absl::Status status = rehearsed.model().Rehearse();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(rehearsed.Step(1, /*measure_head=*/true).loss, plain.Step(1).loss);
}

TEST(CopyHead, NeedsTheTokensThatWentIn) {
  const TinyOptions options = Copying();
  Replica replica(options);
  TokenBatch batch = MakeBatch(options, 1);
  Backbone& backbone = replica.model().backbone();
  ASSERT_TRUE(backbone.Forward(PartOf(batch.ids, 0, 1)).ok());
  ChunkedLoss& loss = replica.model().loss();
  const Tensor targets = PartOf(batch.targets, 0, 1);
  const absl::Status trained =
      loss.Train({.hidden = backbone.hidden(), .targets = targets, .scale = 1, .grad_hidden = backbone.grad_hidden()});
  EXPECT_EQ(trained.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(trained.message()),
              HasSubstr("the tokens that went into the model, of whole sequences of 9"));
  EXPECT_EQ(loss.Evaluate(backbone.hidden(), targets).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(loss.Logits(backbone.hidden().RowSlice(0, 1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CopyHead, RefusesWhatItCannotBe) {
  const auto message = [](const auto& change) {
    proto::ModelConfig config = TinyConfig(Copying()).model();
    change(config);
    return std::string(CheckHead(config, "x").message());
  };
  EXPECT_EQ(message([](proto::ModelConfig&) {}), "");
  for (const int64_t width : {int64_t{0}, int64_t{-3}, int64_t{257}, INT64_MAX, INT64_MIN}) {
    EXPECT_EQ(message([&](proto::ModelConfig& config) { config.mutable_head()->set_copy_width(width); }),
              "x: model.head.copy_width: " + std::to_string(width) + "; accepts 1 to 256");
  }
  EXPECT_THAT(message([](proto::ModelConfig& config) { config.mutable_head()->set_rank(4); }),
              HasSubstr("model.head.rank: 4; a head of kind copy accepts 0"));
  EXPECT_THAT(message([](proto::ModelConfig& config) { config.set_tied_embeddings(true); }),
              HasSubstr("model.tied_embeddings: true; a head of kind copy accepts false"));
  EXPECT_THAT(message([](proto::ModelConfig& config) { config.mutable_head()->set_kind("full"); }),
              HasSubstr("model.head.copy_width: 7; model.head.kind is full, and only a head of kind copy has it"));
  EXPECT_THAT(message([](proto::ModelConfig& config) { config.mutable_head()->set_orthogonality(1); }),
              HasSubstr("model.head.kind: copy; its logits are no product with a parameter"));
}

}  // namespace
}  // namespace isthmus::testing
