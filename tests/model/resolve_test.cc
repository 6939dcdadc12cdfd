// The configuration as a whole: defaults and rules of shared sizes, blocks and families.
#include "model/resolve.h"

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model/blocks/blocks.h"
#include "model/families/family.h"
#include "runtime/config.h"
#include "runtime/config_rules.h"
#include "tests/support/case_name.h"

namespace isthmus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSoundRun[] = R"(
folder: "runs/x"
model { width: 64 layers: 2 heads: 12 head_dim: 4 feed_forward: 96 }
data { train: "tokens" sequence_length: 16 }
batch { sequences: 24 }
)";

// `overrides` are parted by spaces.
proto::RunConfig SoundRunWith(const std::string& overrides) {
  const std::vector<std::string> list = absl::StrSplit(overrides, ' ', absl::SkipEmpty());
  const auto config = ParseConfig(kSoundRun, "x.textproto", list);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : proto::RunConfig();
}

TEST(Resolve, FillsTheDefaultsOfBlocks) {
  proto::RunConfig config = SoundRunWith("model.head_dim=0 model.heads=8 model.feed_forward=0");
  ASSERT_TRUE(ResolveConfig(config, 6, "x.textproto").ok());
  EXPECT_EQ(config.model().kv_heads(), 8);
  EXPECT_EQ(config.model().head_dim(), 8);
  EXPECT_EQ(config.model().feed_forward(), 192);
  EXPECT_EQ(config.mesh().data(), 6);
  EXPECT_EQ(config.model().vocabulary(), 0);
}

TEST(Resolve, WhatIsResolvedStaysAsItIs) {
  proto::RunConfig config = SoundRunWith("");
  ASSERT_TRUE(ResolveConfig(config, 2, "x.textproto").ok());
  const std::string text = ConfigText(config);
  ASSERT_TRUE(ResolveConfig(config, 2, "x.textproto").ok());
  EXPECT_EQ(ConfigText(config), text);
}

struct ModelRule {
  const char* overrides;
  int world;
  const char* message;
};

class ImpossibleModel : public ::testing::TestWithParam<ModelRule> {};

TEST_P(ImpossibleModel, IsRejectedWithFieldValueAndRange) {
  proto::RunConfig config = SoundRunWith(GetParam().overrides);
  const absl::Status status = ResolveConfig(config, GetParam().world, "x.textproto");
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("x.textproto: ") + GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    OfSharedSizes, ImpossibleModel,
    ::testing::Values(
        ModelRule{"model.width=0", 1, "model.width: 0; accepts 1"}, ModelRule{"model.layers=-1", 1, "model.layers: -1"},
        ModelRule{"model.layers=99999999", 1, "model.layers: 99999999"},
        ModelRule{"model.init_std=-1", 1, "model.init_std: -1"},
        ModelRule{"model.norm_epsilon=2", 1, "model.norm_epsilon: 2"},
        ModelRule{"model.vocabulary=-3", 1, "model.vocabulary: -3"},
        ModelRule{"model.layers=65536 model.width=1048576 model.feed_forward=16777216", 1,
                  "model.layers: 65536; makes with model.width (1048576) × model.feed_forward (16777216) more than "
                  "1125899906842624 elements; lower one of them"},
        ModelRule{"model.layers=65536 model.width=131072 model.feed_forward=64 batch.sequences=65536 "
                  "batch.micro_batch=65536",
                  1,
                  "batch.micro_batch: 65536; makes with data.sequence_length (16) × model.layers (65536) × "
                  "model.width"},
        ModelRule{"mesh.tensor=2 model.vocabulary=1", 2,
                  "model.vocabulary: 1; needs at least one row for each of mesh.tensor (2) ranks"},
        // Run settings are judged too.
        ModelRule{"mesh.tensor=0", 1, "mesh.tensor: 0"}),
    testing::CaseName<&ModelRule::overrides>());

INSTANTIATE_TEST_SUITE_P(
    OfBlocks, ImpossibleModel,
    ::testing::Values(
        ModelRule{"model.heads=0", 1, "model.heads: 0; accepts 1 to 16777216"},
        ModelRule{"model.heads=5 model.head_dim=0", 1, "model.heads: 5; does not divide model.width (64)"},
        ModelRule{"model.head_dim=3", 1, "model.head_dim: 3; must be even"},
        ModelRule{"model.kv_heads=5", 1, "model.kv_heads: 5; does not divide model.heads (12)"},
        ModelRule{"mesh.tensor=5", 5,
                  "model.heads: 12; is not divisible by mesh.tensor (5); use a mesh.tensor of 1, 2, 3, 4, 6, 12"},
        ModelRule{"mesh.tensor=4 model.kv_heads=2", 4, "model.kv_heads: 2; is not divisible by mesh.tensor (4)"},
        ModelRule{"mesh.tensor=4 model.feed_forward=98", 4, "model.feed_forward: 98"},
        ModelRule{"model.feed_forward=-1", 1, "model.feed_forward: -1; accepts 0 to 16777216"},
        ModelRule{"model.rope_theta=0", 1, "model.rope_theta: 0"},
        ModelRule{"model.width=16777216 model.heads=16777216 model.head_dim=16777216 model.feed_forward=64", 1,
                  "model.heads: 16777216; times model.head_dim (16777216) is over 16777216"}),
    testing::CaseName<&ModelRule::overrides>());

INSTANTIATE_TEST_SUITE_P(
    OfEightBitLayers, ImpossibleModel,
    ::testing::Values(
        ModelRule{"precision.fp8_layers=true precision.compute=BF16 model.width=72", 1,
                  "model.width: 72; precision.fp8_layers needs model.width (72) to be a multiple of 16"},
        ModelRule{"precision.fp8_layers=true precision.compute=BF16 mesh.tensor=2", 2,
                  "model.heads: 12; precision.fp8_layers needs model.heads × model.head_dim / mesh.tensor (24) to be a "
                  "multiple of 16"},
        ModelRule{"precision.fp8_layers=true precision.compute=BF16 model.kv_heads=3", 1,
                  "model.kv_heads: 3; precision.fp8_layers needs 2 × model.kv_heads × model.head_dim / mesh.tensor "
                  "(24)"},
        ModelRule{"precision.fp8_layers=true precision.compute=BF16 model.feed_forward=104", 1,
                  "model.feed_forward: 104; precision.fp8_layers needs model.feed_forward / mesh.tensor (104)"},
        ModelRule{"precision.fp8_layers=true precision.compute=BF16 data.sequence_length=9 batch.micro_batch=2", 1,
                  "batch.micro_batch: 2; precision.fp8_layers needs batch.micro_batch × data.sequence_length (18)"}),
    testing::CaseName<&ModelRule::overrides>());

TEST(Resolve, EightBitLayersTakeMultiplesOfSixteen) {
  proto::RunConfig config = SoundRunWith("precision.fp8_layers=true precision.compute=BF16");
  const absl::Status status = ResolveConfig(config, 1, "x.textproto");
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_FALSE(SoundRunWith("").precision().fp8_layers());
}

TEST(Resolve, NotANumberInAFileIsRejected) {
  proto::RunConfig config = SoundRunWith("");
  config.mutable_model()->set_rope_theta(std::numeric_limits<double>::infinity());
  const absl::Status status = ResolveConfig(config, 1, "x.textproto");
  EXPECT_THAT(std::string(status.message()), HasSubstr("x.textproto: model.rope_theta: inf; needs a finite number"));
}

TEST(Resolve, VocabularyComesFromTheShardsOrHoldsIt) {
  proto::RunConfig config = SoundRunWith("");
  ASSERT_TRUE(ResolveConfig(config, 1, "x").ok());
  ASSERT_TRUE(ResolveVocabulary(config, 509, "x").ok());
  EXPECT_EQ(config.model().vocabulary(), 509);
  config.mutable_model()->set_vocabulary(512);
  EXPECT_TRUE(ResolveVocabulary(config, 509, "x").ok());
  EXPECT_EQ(config.model().vocabulary(), 512);
  config.mutable_model()->set_vocabulary(500);
  EXPECT_THAT(std::string(ResolveVocabulary(config, 509, "x").message()), HasSubstr("x: model.vocabulary: 500"));
  config.mutable_model()->set_vocabulary(2147483647);
  config.mutable_model()->set_width(int64_t{1} << 24);
  EXPECT_THAT(std::string(ResolveVocabulary(config, 509, "x").message()),
              HasSubstr("x: model.vocabulary: 2147483647; makes with model.width (16777216) more than"));
}

// Adds a family whose layers have the slots. Its blocks are never made.
void AddFamily(Family family, const std::vector<BlockSlot>& slots) {
  family.blocks = [slots](const proto::ModelConfig&, int64_t) { return slots; };
  RegisterFamily(std::move(family));
}

TEST(Resolve, ABlockBringsDefaultsRulesAndRowsOfItsOwn) {
  std::vector<int64_t> asked;
  RegisterBlock({.name = "rules-alone", .resolve = [&asked](const BlockConfig& block, ConfigRules& rules) {
                   asked.push_back(block.tensor_ranks);
                   if (block.model.feed_forward() == 0) block.model.set_feed_forward(7 * block.model.width());
                   rules.AtLeast<int64_t>(100, "model.feed_forward", block.model.feed_forward());
                   return ConfigFactor{"3 × model.feed_forward", 3 * block.model.feed_forward()};
                 }});
  AddFamily({.name = "of-rules"}, {{"rules-alone", "first"}, {"rules-alone", "second"}});

  proto::RunConfig config = SoundRunWith("model.family=of-rules mesh.tensor=2 model.feed_forward=0");
  ASSERT_TRUE(ResolveConfig(config, 2, "x").ok());
  EXPECT_EQ(config.model().feed_forward(), 448);
  EXPECT_THAT(asked, ElementsAre(2));       // once for all slots and layers
  EXPECT_EQ(config.model().kv_heads(), 0);  // a field of other blocks

  config = SoundRunWith("model.family=of-rules model.feed_forward=99");
  EXPECT_EQ(ResolveConfig(config, 1, "x").message(), "x: model.feed_forward: 99; needs at least 100");
  config = SoundRunWith("model.family=of-rules model.layers=65536 model.width=1048576 model.feed_forward=1048576");
  EXPECT_THAT(std::string(ResolveConfig(config, 1, "x").message()),
              HasSubstr("x: model.layers: 65536; makes with model.width (1048576) × 3 × model.feed_forward (3145728)"));
  RegisterBlock({.name = "rules-alone"});
}

struct Unbuilt {
  std::string name;
  Family family;
  BlockSlot slot;
  std::string message;
};

class UnbuiltFamily : public ::testing::TestWithParam<Unbuilt> {};

TEST_P(UnbuiltFamily, IsRefusedWithWhatThisProgramHas) {
  const std::string name = "later-" + GetParam().name;
  Family family = GetParam().family;
  family.name = name;
  AddFamily(std::move(family), {GetParam().slot});
  proto::RunConfig config = SoundRunWith("model.family=" + name);
  EXPECT_EQ(ResolveConfig(config, 1, "x").message(),
            "x: model.family: found \"" + name + "\", which " + GetParam().message);
}

BlockSlot PlainSlot() { return {"attention", "attention"}; }

INSTANTIATE_TEST_SUITE_P(
    Each, UnbuiltFamily,
    ::testing::Values(
        Unbuilt{"Norm",
                {.norm = "batch_norm"},
                PlainSlot(),
                "has norms \"batch_norm\"; this program has rms_norm, layer_norm"},
        Unbuilt{"Positions",
                {.positions = Positions::kLearned},
                PlainSlot(),
                "has learned positions; this program has rotary ones"},
        Unbuilt{"Residual",
                {.residual = ResidualForm::kParallel},
                PlainSlot(),
                "has blocks in parallel; this program runs the blocks of a layer one after another"},
        Unbuilt{"Biases",
                {},
                {"swiglu", "feed_forward", {.biases = true}},
                "asks for biases in \"swiglu\"; this program's block of that kind has no options"},
        Unbuilt{"QueryKeyNorm",
                {},
                {"attention", "attention", {.query_key_norm = true}},
                "asks for query_key_norm in \"attention\"; this program's block of that kind has no options"},
        Unbuilt{"RotatedShare",
                {},
                {"attention", "attention", {.rotated_share = 0.25}},
                "asks for rotated_share in \"attention\"; this program's block of that kind has no options"}),
    [](const auto& test) { return test.param.name; });

TEST(Resolve, AFamilyOfAnUnknownBlockIsRefused) {
  AddFamily({.name = "of-unknown"}, {{"atention", "attention"}});
  proto::RunConfig config = SoundRunWith("model.family=of-unknown");
  EXPECT_THAT(std::string(ResolveConfig(config, 1, "x").message()),
              HasSubstr("x: model.family: found \"of-unknown\", which has a block \"atention\"; this program has "
                        "attention, swiglu"));
}

TEST(Resolve, ABlockHasTheOptionsThatItNames) {
  RegisterBlock({.name = "of-options", .options = {"biases"}});
  AddFamily({.name = "with-biases"}, {{"of-options", "first", {.biases = true}}});
  AddFamily({.name = "with-more"}, {{"of-options", "first", {.biases = true, .rotated_share = 0}}});
  proto::RunConfig config = SoundRunWith("model.family=with-biases");
  EXPECT_TRUE(ResolveConfig(config, 1, "x").ok());
  config.mutable_model()->set_family("with-more");
  EXPECT_THAT(
      std::string(ResolveConfig(config, 1, "x").message()),
      HasSubstr("which asks for rotated_share in \"of-options\"; this program's block of that kind has biases"));
}

}  // namespace
}  // namespace isthmus
