// A record has every scalar of a measurement, and leaves out what is not known.
#include "launch/run/head_record.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <vector>

#include "tests/support/head_scalars.h"

namespace isthmus {
namespace {

TEST(HeadRecord, HasEveryScalar) {
  HeadFigures head;
  head.width = 4;
  head.scalars = testing::AllHeadScalars();
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  for (const auto* field : testing::HeadScalarFields()) {
    EXPECT_TRUE(record.GetReflection()->HasField(record, field)) << field->name();
  }
  EXPECT_EQ(record.numerical_rank(), head.scalars.numerical_rank());
  EXPECT_EQ(record.condition(), head.scalars.condition());
  EXPECT_EQ(record.token_retained_ratio().counts_size(), record.token_retained_ratio().bounds_size() + 1);
}

TEST(LayerRecord, LeavesOutCosinesWithoutAValue) {
  proto::TelemetryRecord record;
  FillLayerRecords(std::vector<LayerFigures>{{.gradient_norm = 2, .anisotropy = 0.5, .centred_anisotropy = -0.25},
                                             {.gradient_norm = 3, .anisotropy = 1}},
                   record);
  ASSERT_EQ(record.layers_size(), 2);
  EXPECT_EQ(record.layers(0).hidden_anisotropy(), 0.5);
  EXPECT_EQ(record.layers(0).hidden_centred_anisotropy(), -0.25);
  EXPECT_EQ(record.layers(1).layer(), 1);
  EXPECT_EQ(record.layers(1).gradient_norm(), 3);
  EXPECT_EQ(record.layers(1).hidden_anisotropy(), 1);
  EXPECT_FALSE(record.layers(1).has_hidden_centred_anisotropy());
}

TEST(HeadRecord, LeavesOutWhatFewSampledTokensMakeTrivial) {
  HeadFigures head;
  head.width = 16;
  const auto record_of = [&](int64_t sampled) {
    head.scalars = testing::AllHeadScalars();
    head.scalars.set_sampled_tokens(sampled);
    proto::HeadRecord record;
    FillHeadRecord(head, record);
    return record;
  };
  for (const int64_t sampled : {16, 17, 32, 33}) {
    const proto::HeadRecord record = record_of(sampled);
    EXPECT_EQ(record.sampled_tokens(), sampled);
    EXPECT_EQ(record.has_best_rank_energy_ratio(), sampled > 16) << sampled;
    EXPECT_EQ(record.has_components_for_70_percent(), sampled > 16) << sampled;
    EXPECT_EQ(record.has_components_for_99_9_percent(), sampled > 16) << sampled;
    EXPECT_EQ(record.has_best_double_rank_energy_ratio(), sampled > 32) << sampled;
    EXPECT_TRUE(record.has_sampled_retained_energy_ratio());
  }
}

TEST(HeadRecord, HasSomeOfTheSingularValues) {
  HeadFigures head;
  proto::HeadRecord none;
  FillHeadRecord(head, none);
  EXPECT_EQ(none.singular_values_size(), 0);
  EXPECT_EQ(none.sampled_singular_values_size(), 0);
  head.singular_values = {3, 2, 1.5, 1};
  head.sampled_singular_values = {5, 4};
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_EQ(record.singular_values_size(), 4);
  ASSERT_EQ(record.sampled_singular_values_size(), 2);
  EXPECT_EQ(record.sampled_singular_values(1).index(), 2);
  EXPECT_EQ(record.sampled_singular_values(1).value(), 4);
}

TEST(HeadRecord, HasTheLossesOfLaterTargets) {
  proto::TelemetryRecord record;
  FillHeadLosses({}, record);
  EXPECT_FALSE(record.has_head_loss());
  FillHeadLosses({.future = {1.5, std::nullopt, 3, 4, 5, 6, 7, 8}}, record);
  EXPECT_EQ(record.head_loss().future_1(), 1.5);
  EXPECT_FALSE(record.head_loss().has_future_2());
  EXPECT_EQ(record.head_loss().future_3(), 3);
  EXPECT_EQ(record.head_loss().future_8(), 8);
}

TEST(HeadRecord, OfAHeadThatIsNotLinearHasNoFigures) {
  proto::HeadRecord record;
  FillHeadRecord({.not_measured = "its logits are capped", .linear = false}, record);
  EXPECT_EQ(record.ByteSizeLong(), 0u) << record.DebugString();
}

TEST(HeadRecord, LeavesOutWhatIsMadeOfSquaresThatVanish) {
  HeadFigures head;
  head.scalars.set_target_coefficient(-0.5);
  head.shards.resize(1);
  head.shards[0].logit_gradient_energy = std::numeric_limits<double>::quiet_NaN();
  head.not_measured = "squares vanish";
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_FALSE(record.has_logit_gradient_norm());
  EXPECT_FALSE(record.has_target_energy_share());
  EXPECT_FALSE(record.has_row_anisotropy());
  EXPECT_FALSE(record.has_token_retained_ratio());
  EXPECT_EQ(record.target_coefficient(), -0.5);
  ASSERT_EQ(record.shards_size(), 1);
  EXPECT_FALSE(record.shards(0).has_logit_gradient_norm());
  EXPECT_FALSE(record.shards(0).has_energy_share());

  head.scalars.set_logit_gradient_norm(2);
  head.scalars.set_target_energy_share(0.25);
  head.scalars.set_row_anisotropy(0.25);
  head.shards[0].logit_gradient_energy = 1;
  proto::HeadRecord known;
  FillHeadRecord(head, known);
  EXPECT_EQ(known.logit_gradient_norm(), 2);
  EXPECT_EQ(known.target_energy_share(), 0.25);
  EXPECT_EQ(known.row_anisotropy(), 0.25);
  EXPECT_EQ(known.shards(0).energy_share(), 0.25);
}

}  // namespace
}  // namespace isthmus
