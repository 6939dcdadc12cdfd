// Scores of tokens: for heads of several kinds, at every mesh, they are those of an argmax over the whole vocabulary
// that is found in another way, on one rank and in fp64.
// ranks: 1 2 3
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

TinyOptions ScoredHead(const std::string& kind, const std::string& head = "") {
  TinyOptions options;
  options.width = 24;
  options.heads = 6;
  options.head_kind = kind;
  options.head = head;
  options.vocabulary = 61;
  options.sequences = 6;
  options.sequence_length = 4;
  options.loss_chunk = 7;
  options.measured = false;
  return options;
}

// Heads that score at once, and those whose logits are log-probabilities. Two micro-batches have chunks of their own.
std::vector<TinyOptions> ScoredHeads() {
  std::vector<TinyOptions> all = {ScoredHead("full"),
                                  ScoredHead("full", "soft_cap: 0.3 z_loss: 0.01"),
                                  ScoredHead("full", "bias: true"),
                                  ScoredHead("mixture", "mixture { count: 3 }"),
                                  ScoredHead("hierarchical", "clusters { kind: 'order' count: 7 }"),
                                  ScoredHead("copy")};
  all[0].micro_batch = 1;
  all[4].micro_batch = 1;
  return all;
}

// Returns the losses [N, V] of each token with each class as its target. The head's loss finds them, which reads no
// logits of the whole vocabulary: a class is likelier than another if its loss is lower.
Matrix LossesOfClasses(const TinyOptions& options, TokenBatch& batch) {
  Replica replica(options);
  TrainingModel& model = replica.model();
  const auto tokens = static_cast<int64_t>(batch.ids.size());
  const int64_t part = model.backbone().hidden().rows;
  Matrix losses(tokens, options.vocabulary);
  std::vector<int32_t> targets(static_cast<size_t>(part));
  const auto sum_of = [&](const Tensor& ids) {
    EXPECT_TRUE(model.loss().ResetSums().ok());
    const Tensor classes(targets.data(), DType::kInt32, 1, part);
    EXPECT_TRUE(model.loss().Evaluate(model.backbone().hidden(), classes, ids).ok());
    return model.loss().Sums().value().loss;
  };
  for (int64_t begin = 0; begin < tokens; begin += part) {
    const Tensor ids(batch.ids.data() + begin, DType::kInt32, 1, part);
    EXPECT_TRUE(model.backbone().Forward(ids).ok());
    std::fill(targets.begin(), targets.end(), 0);
    const double before = sum_of(ids);
    for (int64_t n = 0; n < part; ++n) {
      for (int32_t v = 0; v < options.vocabulary; ++v) {
        targets[static_cast<size_t>(n)] = v;
        losses(begin + n, v) = sum_of(ids) - before;
      }
      targets[static_cast<size_t>(n)] = 0;
    }
  }
  return losses;
}

// Sets a third of the targets to the likeliest class, a third to the second, and the others to any. Returns the scores.
std::vector<int32_t> ChooseTargets(const Matrix& losses, std::vector<int32_t>& targets) {
  std::vector<int32_t> scores;
  for (int64_t n = 0; n < losses.rows(); ++n) {
    std::vector<int32_t> order(static_cast<size_t>(losses.cols()));
    for (size_t v = 0; v < order.size(); ++v) order[v] = static_cast<int32_t>(v);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return losses(n, a) < losses(n, b); });
    int32_t& target = targets[static_cast<size_t>(n)];
    if (n % 3 < 2) target = order[static_cast<size_t>(n % 3)];
    scores.push_back(target == order[0] ? 1 : 0);
  }
  return scores;
}

// Returns the scores of all tokens, in their order, that the data ranks found.
std::vector<int32_t> ScoresOnMesh(const TinyOptions& options, TokenBatch& batch) {
  Replica replica(options, &World());
  const int index = replica.mesh().data_rank(), parts = replica.mesh().data_ranks();
  const Tensor ids = PartOf(batch.ids, index, parts), targets = PartOf(batch.targets, index, parts);
  const double loss = replica.model().Evaluate(ids, targets).value();
  const auto found = replica.model().EvaluateTokens(ids, targets, /*scores=*/true);
  EXPECT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->loss, loss);
  EXPECT_EQ(replica.model().Evaluate(ids, targets).value(), loss);
  std::vector<double> all(batch.ids.size(), 0);
  for (size_t n = 0; n < found->scores.size(); ++n) {
    all[static_cast<size_t>(index) * found->scores.size() + n] = found->scores[n];
  }
  EXPECT_TRUE(replica.mesh().data().AllReduceNumbers(absl::MakeSpan(all)).ok());
  return {all.begin(), all.end()};
}

TEST(Accuracy, IsThatOfAnArgmaxOverTheWholeVocabularyAtEveryMesh) {
  for (TinyOptions options : ScoredHeads()) {
    TokenBatch batch = MakeBatch(options, 1);
    const Matrix losses = LossesOfClasses(options, batch);
    const std::vector<int32_t> expected = ChooseTargets(losses, batch.targets);
    const auto right = std::count(expected.begin(), expected.end(), 1);
    EXPECT_TRUE(right >= 8 && right < 16) << right;
    for (const bool by_tensor : {true, false}) {
      options.tensor = by_tensor ? World().size() : 1;
      options.data = by_tensor ? 1 : World().size();
      SCOPED_TRACE(options.Name());
      EXPECT_EQ(ScoresOnMesh(options, batch), expected);
      // Another class as a token's target changes its score.
      TokenBatch other = batch;
      other.targets[0] = (other.targets[0] + 1) % static_cast<int32_t>(options.vocabulary);
      std::vector<int32_t> wrong = expected;
      wrong[0] = 0;
      EXPECT_EQ(ScoresOnMesh(options, other), wrong);
    }
  }
}

// The heads' own matrices, formed as no run forms them, say the same of a head with one matrix W.
TEST(Accuracy, OfALinearHeadIsThatOfItsLogits) {
  const TinyOptions options = ScoredHead("full");
  HeadPass pass(options);
  TokenBatch batch = MakeBatch(options, 1);
  ASSERT_EQ(batch.ids, pass.ids);
  TokenBatch chosen = batch;
  const std::vector<int32_t> expected = ChooseTargets(-pass.logits, chosen.targets);
  TinyOptions spread = options;
  spread.tensor = World().size();
  EXPECT_EQ(ScoresOnMesh(spread, chosen), expected);
}

// Steps after a scored validation are those after none.
TEST(Accuracy, LeavesTrainingAsItIs) {
  for (TinyOptions options : ScoredHeads()) {
    options.tensor = World().size();
    SCOPED_TRACE(options.Name());
    Replica plain(options, &World()), scored(options, &World());
    TokenBatch batch = MakeBatch(options, 9);
    for (int64_t step = 1; step <= 3; ++step) {
      EXPECT_EQ(scored.Step(step).loss, plain.Step(step).loss);
      ASSERT_TRUE(
          scored.model().EvaluateTokens(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1), /*scores=*/true).ok());
    }
  }
}

// A model that says nothing is right about nothing, in any precision.
TEST(Accuracy, OfAHeadOfZerosIsZero) {
  for (const auto precision :
       {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16, proto::PrecisionConfig::FP64}) {
    TinyOptions options = ScoredHead("full");
    options.precision = precision;
    options.tensor = World().size();
    Replica replica(options, &World());
    ParameterStore& parameters = replica.model().parameters();
    const Tensor weight = parameters.Weight(replica.model().loss().parameter());
    for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, 0);
    TokenBatch batch = MakeBatch(options, 1);
    const auto found =
        replica.model().EvaluateTokens(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1), /*scores=*/true);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->scores, std::vector<int32_t>(batch.ids.size(), 0));
  }
}

}  // namespace
}  // namespace isthmus::testing
