#include "runtime/data/class_bigram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "runtime/data/bigram_counts.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/parallel_for.h"
#include "tests/support/class_language.h"

namespace isthmus {
namespace {

using testing::ClassLanguage;
using testing::CountPairs;
using testing::MatrixOf;
using testing::PairCounts;

constexpr int64_t kVocabularySize = 35;

// The model of class_bigram.h, straight from its formula. A discount other than 1 makes another model.
class SlowModel {
 public:
  SlowModel(PairCounts pairs, std::vector<int32_t> cluster_of, double discount = 1)
      : pairs_(std::move(pairs)), cluster_of_(std::move(cluster_of)), discount_(discount) {}

  double Probability(int32_t previous, int32_t next) const {
    const int32_t cluster = ClusterOf(next);
    double all = 0, of_cluster = 0, of_token = 0, of_previous = 0, both = 0, size = 0;
    std::set<int32_t> follow;
    for (const auto& [pair, count] : pairs_) {
      all += count;
      if (ClusterOf(pair.second) == cluster) of_cluster += count;
      if (pair.second == next) of_token += count;
      if (pair.first != previous) continue;
      of_previous += count;
      if (ClusterOf(pair.second) == cluster) both += count;
      follow.insert(ClusterOf(pair.second));
    }
    for (const int32_t c : cluster_of_) size += c == cluster;
    const double share = (of_cluster + size / 2) / (all + static_cast<double>(cluster_of_.size()) / 2);
    const double different = discount_ * static_cast<double>(follow.size());
    const double given = of_previous == 0 ? share : (both + different * share) / (of_previous + different);
    return given * (of_token + 0.5) / (of_cluster + size / 2);
  }

  double Loss(const PairCounts& held_out) const {
    double nats = 0, all = 0;
    for (const auto& [pair, count] : held_out) {
      nats -= count * std::log(Probability(pair.first, pair.second));
      all += count;
    }
    return nats / all;
  }

 private:
  int32_t ClusterOf(int32_t token) const { return cluster_of_[static_cast<size_t>(token)]; }

  PairCounts pairs_;
  std::vector<int32_t> cluster_of_;
  double discount_;
};

class ClassBigramTest : public ::testing::Test {
 protected:
  // Some tokens of the held-out text were never seen in training, and some never before another.
  PairCounts training_ = CountPairs(ClassLanguage(kVocabularySize, 5, 1).Text(300, 0));
  PairCounts held_out_ = CountPairs(ClassLanguage(kVocabularySize, 5, 1).Text(2'000, 1));
  CorpusBigrams bigrams_ = {.training = MatrixOf(training_, kVocabularySize),
                            .held_out = MatrixOf(held_out_, kVocabularySize)};
  ClassBigram model_{bigrams_};
};

TEST_F(ClassBigramTest, LossIsThatOfTheFormula) {
  for (const int64_t clusters : {1, 4, 35}) {
    const auto random = ShuffledClusters(kVocabularySize, clusters, 1);
    const double loss = model_.Loss(random, clusters);
    EXPECT_NEAR(loss, SlowModel(training_, random).Loss(held_out_), 1e-12) << clusters;
    // Another discount is another model, but for a single cluster.
    const double other = SlowModel(training_, random, 1.01).Loss(held_out_);
    EXPECT_EQ(std::fabs(loss - other) > 1e-6, clusters > 1) << other;
  }
  EXPECT_EQ(model_.held_out_pairs(), 1999);
}

TEST_F(ClassBigramTest, ProbabilitiesAddUpToOne) {
  const SlowModel model(training_, ShuffledClusters(kVocabularySize, 4, 1));
  for (const int32_t previous : {0, 1, 34}) {
    double sum = 0;
    for (int32_t next = 0; next < kVocabularySize; ++next) sum += model.Probability(previous, next);
    EXPECT_NEAR(sum, 1, 1e-12);
  }
}

TEST_F(ClassBigramTest, TrueClassesExplainMostAndThreadsChangeNothing) {
  const PairCounts much = CountPairs(ClassLanguage(kVocabularySize, 5, 1).Text(20'000, 0));
  const CorpusBigrams bigrams = {.training = MatrixOf(much, kVocabularySize), .held_out = bigrams_.held_out};
  const ClassBigram model(bigrams);
  const auto classes = ClassLanguage(kVocabularySize, 5, 1).class_of();
  const double loss = model.Loss(classes, 5), random = model.Loss(ShuffledClusters(kVocabularySize, 5, 1), 5);
  EXPECT_LT(loss, random - 0.2);
  EXPECT_LT(random, model.Loss(std::vector<int32_t>(kVocabularySize, 0), 1));
  const int threads = MaxThreads();
  SetThreads(3);
  EXPECT_EQ(model.Loss(classes, 5), loss);
  SetThreads(threads);
}

TEST_F(ClassBigramTest, NothingHeldOutIsNoLoss) {
  const CorpusBigrams bigrams = {.training = MatrixOf(training_, kVocabularySize),
                                 .held_out = MatrixOf({}, kVocabularySize)};
  EXPECT_EQ(ClassBigram(bigrams).held_out_pairs(), 0);
  EXPECT_EQ(ClassBigram(bigrams).Loss(ShuffledClusters(kVocabularySize, 4, 1), 4), 0);
}

}  // namespace
}  // namespace isthmus
