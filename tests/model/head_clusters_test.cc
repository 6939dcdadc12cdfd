// Clusters of tokens: where they come from, and which settings are refused.
#include "model/head_clusters.h"

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/model.h"
#include "model/resolve.h"
#include "runtime/config.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/npy.h"
#include "tests/support/case_name.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `overrides` are parted by spaces.
proto::RunConfig RunOfClusters(const std::string& overrides) {
  const std::vector<std::string> list = absl::StrSplit(overrides, ' ', absl::SkipEmpty());
  const auto config = ParseConfig(R"(
    folder: "runs/x"
    model { width: 64 layers: 2 heads: 4 head { kind: "cluster" } }
    data { train: "tokens" sequence_length: 16 }
  )",
                                  "x", list);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : proto::RunConfig();
}

struct ClusterRule {
  const char* overrides;
  const char* message;  // empty: none
};
class ClusterRules : public ::testing::TestWithParam<ClusterRule> {};

TEST_P(ClusterRules, AreJudgedWithFieldValueAndRange) {
  proto::RunConfig config = RunOfClusters(GetParam().overrides);
  absl::Status status = ResolveConfig(config, 1, "x");
  // A vocabulary that is open comes from the shards.
  if (status.ok()) status = ResolveVocabulary(config, 101, "x");
  EXPECT_EQ(status.message(), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Each, ClusterRules,
    ::testing::Values(
        ClusterRule{"data.token_clusters=c.npy", ""},
        ClusterRule{"data.token_clusters=c.npy model.head.clusters.count=7", ""},
        ClusterRule{"model.head.clusters.kind=order model.head.clusters.count=1", ""},
        ClusterRule{"model.head.clusters.kind=random model.head.clusters.count=101", ""},
        ClusterRule{"model.head.kind=full", ""},
        ClusterRule{"model.head.clusters.kind=frequency model.head.clusters.count=5", ""},
        ClusterRule{"model.head.clusters.kind=size",
                    "x: model.head.clusters.kind: \"size\"; accepts file, order, random, frequency"},
        ClusterRule{"model.head.clusters.kind=frequency model.head.clusters.count=5 model.head.clusters.growth=0.5",
                    "x: model.head.clusters.growth: 0.5; accepts 1 and more"},
        ClusterRule{"model.head.clusters.kind=order model.head.clusters.count=5 model.head.clusters.most_classes=9",
                    "x: model.head.clusters.most_classes: 9; a head of kind cluster has no levels; set 0"},
        ClusterRule{
            "model.head.kind=hierarchical model.head.clusters.kind=frequency model.head.clusters.count=1",
            "x: model.head.clusters.count: 1; a head of kind hierarchical with clusters by frequency has cluster "
            "0 in its first level, and accepts 2 and more"},
        ClusterRule{
            "model.head.kind=full model.head.clusters.kind=order model.head.clusters.count=5",
            "x: model.head.clusters.kind: \"order\"; the head at full width has no clusters; leave it unset, or choose "
            "another model.head.kind"},
        ClusterRule{"model.head.kind=sampled model.head.sampled+=classes:9 stability.spike.policy=SKIP", ""},
        ClusterRule{
            "model.head.kind=sampled model.head.sampled+=classes:9 model.head.sampled+=from_step:5 "
            "stability.spike.policy=SKIP",
            "x: stability.spike.policy: SKIP; the losses of the head's stages do not compare, and a change would "
            "be a spike; use NONE or one stage"},
        ClusterRule{"",
                    "x: data.token_clusters: \"\"; model.head.clusters.kind file needs the cluster of each token, "
                    "int32 [V] in a .npy file, as `isthmus tokenizer cluster` makes it"},
        ClusterRule{"model.head.clusters.kind=order model.head.clusters.count=7 data.token_clusters=c.npy",
                    "x: data.token_clusters: \"c.npy\"; model.head.clusters.kind order reads no file; leave it empty, "
                    "or choose kind file"},
        ClusterRule{"model.head.kind=full data.token_clusters=c.npy",
                    "x: data.token_clusters: \"c.npy\"; the head at full width has no clusters; leave it empty, or "
                    "choose another model.head.kind"},
        ClusterRule{"model.head.clusters.kind=random",
                    "x: model.head.clusters.count: 0; model.head.clusters.kind random needs a number of clusters, 1 to "
                    "the vocabulary"},
        ClusterRule{"model.head.clusters.kind=order model.head.clusters.count=-1",
                    "x: model.head.clusters.count: -1; accepts 0 to 2147483647"},
        ClusterRule{"model.vocabulary=101 data.token_clusters=c.npy model.head.clusters.count=-1",
                    "x: model.head.clusters.count: -1; accepts 1 to 101"},
        ClusterRule{"model.head.clusters.kind=order model.head.clusters.count=102",
                    "x: model.head.clusters.count: 102; accepts 1 to 101"},
        ClusterRule{"model.vocabulary=110 model.head.clusters.kind=order model.head.clusters.count=111",
                    "x: model.head.clusters.count: 111; accepts 1 to 110"}),
    testing::CaseName<&ClusterRule::overrides>());

proto::RunConfig ResolvedClusters(const std::string& overrides, int64_t vocabulary) {
  proto::RunConfig config = RunOfClusters(overrides);
  EXPECT_TRUE(ResolveConfig(config, 1, "x").ok());
  EXPECT_TRUE(ResolveVocabulary(config, vocabulary, "x").ok());
  return config;
}

TEST(HeadClusters, OfTwoLevelsAreBoundedOnRequest) {
  const std::string levels = "model.head.kind=hierarchical model.head.clusters.kind=";
  const auto refusal = [&](const std::string& more, int64_t vocabulary) {
    proto::RunConfig config = ResolvedClusters(levels + more, vocabulary);
    const std::vector<uint64_t> counts(static_cast<size_t>(vocabulary), 1);
    return std::string(ResolveClusters(config, *MakeClusters(config, vocabulary, counts), "x").message());
  };
  EXPECT_EQ(refusal("order model.head.clusters.count=10 model.head.clusters.most_classes=10", 100), "");
  EXPECT_EQ(
      refusal("order model.head.clusters.count=10 model.head.clusters.most_classes=9", 100),
      "x: model.head.clusters.most_classes: 9; the first level has 10 classes, and the largest cluster 10 tokens; "
      "set another model.head.clusters.count, or accept 10");
  // Clusters of 20 and 80 tokens: the first level has the 20 and a cluster.
  EXPECT_EQ(refusal("frequency model.head.clusters.count=2 model.head.clusters.most_classes=80", 100), "");
  EXPECT_THAT(refusal("frequency model.head.clusters.count=2 model.head.clusters.most_classes=20", 100),
              HasSubstr("the first level has 21 classes, and the largest cluster 80 tokens"));
}

// A plan, or a run before its data is open, knows neither clusters nor their number.
TEST(HeadClusters, ModelsAreDeclaredBeforeTheyAreKnown) {
  for (const char* overrides : {"model.vocabulary=101 data.token_clusters=c.npy",
                                "model.head.clusters.kind=order model.head.clusters.count=2000000000",
                                "model.head.clusters.kind=frequency model.head.clusters.count=7"}) {
    proto::RunConfig config = RunOfClusters(std::string("model.head.kind=hierarchical ") + overrides);
    ASSERT_TRUE(ResolveConfig(config, 1, "x").ok());
    EXPECT_GT(ParametersOf(config).specs.size(), 5u) << overrides;
  }
}

TEST(HeadClusters, OfEqualSizesNeedNoFile) {
  const std::string count = "model.head.clusters.count=3 model.head.clusters.kind=";
  EXPECT_THAT(*MakeClusters(ResolvedClusters(count + "order", 7), 7, {}), ElementsAre(0, 0, 0, 1, 1, 2, 2));
  proto::RunConfig config = ResolvedClusters(count + "random", 700);
  EXPECT_EQ(*MakeClusters(config, 700, {}), ShuffledClusters(700, 3, config.seed()));
  config.set_seed(config.seed() + 1);
  EXPECT_NE(*MakeClusters(config, 700, {}), ShuffledClusters(700, 3, config.seed() - 1));
  EXPECT_TRUE(MakeClusters(ResolvedClusters("model.head.kind=full", 7), 7, {})->empty());
}

TEST(HeadClusters, OfAFileDecideTheirNumber) {
  const TemporaryFolder folder;
  const std::string path = folder / "c.npy";
  WriteText(path, NpyBytes(std::vector<int32_t>{2, 0, 1, 1, 3}));
  proto::RunConfig config = ResolvedClusters("data.token_clusters=" + path, 5);
  const auto clusters = MakeClusters(config, 5, {});
  ASSERT_TRUE(clusters.ok()) << clusters.status();
  EXPECT_THAT(*clusters, ElementsAre(2, 0, 1, 1, 3));
  ASSERT_TRUE(ResolveClusters(config, *clusters, "x").ok());
  EXPECT_EQ(config.model().head().clusters().count(), 4);
  EXPECT_TRUE(ResolveClusters(config, *clusters, "x").ok());
  config.mutable_model()->mutable_head()->mutable_clusters()->set_count(5);
  EXPECT_EQ(ResolveClusters(config, *clusters, "x").message(),
            "x: model.head.clusters.count: 5; data.token_clusters has 4 clusters; set 0 or 4");
  EXPECT_TRUE(absl::IsNotFound(MakeClusters(ResolvedClusters("data.token_clusters=" + path + "x", 5), 5, {}).status()));
  EXPECT_THAT(std::string(MakeClusters(config, 6, {}).status().message()), HasSubstr(path + ": found int32 (5,)"));
}

// A model may have more rows than the data have tokens.
TEST(HeadClusters, RowsOfNoTokenGoToTheClustersInTurn) {
  const TemporaryFolder folder;
  WriteText(folder / "c.npy", NpyBytes(std::vector<int32_t>{1, 0, 1}));
  proto::RunConfig config =
      ResolvedClusters("model.vocabulary=6 data.token_clusters=" + (folder / "c.npy"), /*vocabulary=*/3);
  const auto clusters = MakeClusters(config, 3, {});
  ASSERT_TRUE(clusters.ok()) << clusters.status();
  EXPECT_THAT(*clusters, ElementsAre(1, 0, 1, 1, 0, 1));
  EXPECT_TRUE(ResolveClusters(config, *clusters, "x").ok());
}

}  // namespace
}  // namespace isthmus::testing
