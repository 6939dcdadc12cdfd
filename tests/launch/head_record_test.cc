// What a record leaves out because it is not known.
#include "launch/run/head_record.h"

#include <gtest/gtest.h>

#include <limits>

namespace isthmus {
namespace {

TEST(HeadRecord, LeavesOutWhatFollowsFromSingularValuesThatAreNotKnownYet) {
  HeadFigures head;
  head.weight.numerical_rank = 4;
  head.weight.row_anisotropy = 0.25;
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_EQ(record.numerical_rank(), 4);
  EXPECT_EQ(record.row_anisotropy(), 0.25);
  EXPECT_FALSE(record.has_singular_values_step());
  EXPECT_FALSE(record.has_condition());
  EXPECT_FALSE(record.has_stable_rank());
  EXPECT_FALSE(record.has_error_ratio_at_half());
  EXPECT_EQ(record.singular_values_size(), 0);

  head.weight.step = 20;
  head.weight.condition = 3;
  head.weight.singular_values = {3, 2, 1.5, 1};
  proto::HeadRecord known;
  FillHeadRecord(head, known);
  EXPECT_EQ(known.singular_values_step(), 20);
  EXPECT_EQ(known.condition(), 3);
  EXPECT_EQ(known.singular_values_size(), 4);
  EXPECT_TRUE(known.has_stable_rank());
}

TEST(HeadRecord, OfAHeadThatIsNotLinearHasNoFigures) {
  proto::HeadRecord record;
  FillHeadRecord({.not_measured = "its logits are capped", .linear = false}, record);
  EXPECT_EQ(record.ByteSizeLong(), 0u) << record.DebugString();
}

TEST(HeadRecord, LeavesOutWhatIsMadeOfSquaresThatVanish) {
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  HeadFigures head;
  head.gradient.logit_gradient_norm = head.gradient.target_energy_share = head.weight.row_anisotropy = unknown;
  head.gradient.target_coefficient = -0.5;
  head.shards.resize(1);
  head.shards[0].logit_gradient_energy = unknown;
  head.not_measured = "squares vanish";
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_FALSE(record.has_logit_gradient_norm());
  EXPECT_FALSE(record.has_target_energy_share());
  EXPECT_FALSE(record.has_row_anisotropy());
  EXPECT_EQ(record.target_coefficient(), -0.5);
  ASSERT_EQ(record.shards_size(), 1);
  EXPECT_FALSE(record.shards(0).has_logit_gradient_norm());
  EXPECT_FALSE(record.shards(0).has_energy_share());

  head.gradient.logit_gradient_norm = 2;
  head.gradient.target_energy_share = head.weight.row_anisotropy = 0.25;
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
