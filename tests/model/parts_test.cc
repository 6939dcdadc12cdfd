// Tests the checks and facts about the parts that a configuration names, before a model is made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/heads/heads.h"
#include "model/model.h"
#include "model/resolve.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

// Returns the judgement of the run configuration's rules on a model.
absl::Status Judge(const proto::ModelConfig& model, const std::string& source) {
  proto::RunConfig config = TinyConfig({});
  *config.mutable_model() = model;
  config.set_folder("run");
  config.mutable_data()->add_train("tokens");
  return ResolveConfig(config, 1, source);
}

struct Refused {
  std::string name, family, kind;
  int64_t head_rank;
  bool tied;
  std::string message;
};

class RefusedParts : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedParts, NamesTheFieldAndWhatIsAccepted) {
  const Refused& refused = GetParam();
  TinyOptions options = {.tied = refused.tied, .family = refused.family, .head_kind = refused.kind};
  options.head_rank = refused.head_rank;
  const absl::Status status = Judge(TinyConfig(options).model(), "run.textproto");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("run.textproto: " + refused.message));
}

INSTANTIATE_TEST_SUITE_P(
    Each, RefusedParts,
    ::testing::Values(
        Refused{"Family", "lama", "", 0, false, "model.family: found \"lama\"; accepts llama"},
        Refused{"Kind", "llama", "ful", 0, false, "model.head.kind: found \"ful\"; accepts full, tied, factorised"},
        Refused{"RankAboveWidth", "llama", "", 17, false,
                "model.head_rank: 17; accepts 0 (full width) to model.width (16)"},
        Refused{"RankBelowZero", "llama", "", -1, false, "model.head_rank: -1; accepts 0 (full width) to"},
        Refused{"RankAndTied", "llama", "", 8, true, "model.tied_embeddings: true; a factorised head"},
        Refused{"FullWithRank", "llama", "full", 8, false, "model.head_rank: 8; a head of kind full accepts 0"},
        Refused{"FullButTied", "llama", "full", 0, true,
                "model.tied_embeddings: true; a head of kind full accepts false"},
        Refused{"TiedButNotSet", "llama", "tied", 0, false,
                "model.tied_embeddings: false; a head of kind tied accepts true"},
        Refused{"FactorisedWithoutRank", "llama", "factorised", 0, false, "model.head.rank: 0; accepts"}),
    [](const auto& test) { return test.param.name; });

TEST(Parts, OfTheProgramAreAccepted) {
  for (const TinyOptions& options :
       {TinyOptions{}, TinyOptions{.tied = true}, TinyOptions{.head_rank = 16}, TinyOptions{.head_kind = "full"},
        TinyOptions{.tied = true, .head_kind = "tied"}, TinyOptions{.head_kind = "factorised", .head_rank = 3}}) {
    EXPECT_TRUE(Judge(TinyConfig(options).model(), "").ok()) << options.Name();
  }
}

TEST(Parts, HeadsSayTheirShapeAndTitle) {
  const auto model = [](const TinyOptions& options) { return TinyConfig(options).model(); };
  EXPECT_EQ(HeadTitle(model({})), "head at full width");
  EXPECT_EQ(HeadTitle(model({.tied = true})), "tied head");
  EXPECT_EQ(HeadTitle(model({.head_rank = 6})), "head of rank 6");
  EXPECT_EQ(HeadTitle(model({.head_kind = "later"})), "later head");
  EXPECT_EQ(HeadShapeOf(model({})).width, 16);
  EXPECT_TRUE(HeadShapeOf(model({.tied = true})).in_embedding);
  EXPECT_EQ(HeadShapeOf(model({.head_rank = 6})).width, 6);
  EXPECT_TRUE(HeadShapeOf(model({.head_rank = 6})).has_down);
}

TEST(Parts, TheHeadsRankHasAnOlderName) {
  proto::ModelConfig older = TinyConfig({.head_rank = 6}).model(), newer = TinyConfig({}).model();
  newer.mutable_head()->set_rank(6);
  EXPECT_EQ(HeadTitle(newer), "head of rank 6");
  proto::ModelConfig both = newer;
  both.set_head_rank(5);
  const absl::Status refused = Judge(both, "x");
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("x: model.head_rank: 5; model.head.rank is 6"));
  both.set_head_rank(6);
  EXPECT_TRUE(Judge(both, "x").ok());
  for (proto::ModelConfig* config : {&older, &newer, &both}) NormaliseHead(*config);
  EXPECT_EQ(older.SerializeAsString(), newer.SerializeAsString());
  EXPECT_EQ(both.SerializeAsString(), newer.SerializeAsString());
}

TEST(Parts, EveryParameterHasTheNameThatOtherProgramsGiveIt) {
  const auto foreign = [](const TinyOptions& options, const std::string& own) {
    const ParameterTable table = ParametersOf(TinyConfig(options));
    return table.specs[static_cast<size_t>(table.Find(own))].foreign_name;
  };
  for (const ParameterSpec& spec : ParametersOf(TinyConfig({})).specs) EXPECT_NE(spec.foreign_name, "") << spec.name;
  EXPECT_EQ(foreign({}, "embedding.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(foreign({}, "layers.1.attention.k_proj.weight"), "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(foreign({}, "layers.0.feed_forward_norm.weight"), "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(foreign({.head_rank = 4}, "head.up.weight"), "");
}

}  // namespace
}  // namespace isthmus::testing
