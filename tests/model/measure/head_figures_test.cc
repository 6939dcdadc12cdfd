// A decomposition has all figures that proto::HeadRecord declares, except those that are not known.
#include "model/measure/head_figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/measure/head_sums.h"
#include "tests/support/head_scalars.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::SizeIs;

// The record is the list of figures: one that nothing computes would be absent for ever.
TEST(HeadFigures, AreAllScalarsOfTheRecord) {
  const HeadFigures head = *Replica({}).Step(3, /*measure_head=*/true).head;
  ASSERT_EQ(head.not_measured, "");
  for (const auto* field : HeadScalarFields()) {
    EXPECT_TRUE(head.scalars.GetReflection()->HasField(head.scalars, field)) << field->name();
  }
}

HeadSums SumsOfFourColumns() {
  HeadSums sums;
  sums.tokens = 3;
  sums.vocabulary = 8;
  sums.width = sums.rank = 4;
  sums.shards = {{.rows = 8, .logit_gradient_energy = 4}};
  sums.sample_gram = isthmus::Matrix::Identity(3, 3);
  sums.sampled_hidden = isthmus::Matrix::Identity(3, 4);
  sums.hidden_unit_sum = sums.head_unit_sum = Eigen::VectorXd::Ones(4);
  sums.singular_values = Eigen::Vector4d(3, 2, 1.5, 1);
  sums.singular_values_rank = 4;
  return sums;
}

TEST(HeadFigures, ThatFollowFromSingularValuesAreAbsentUntilThoseAreKnown) {
  HeadSums sums = SumsOfFourColumns();
  sums.singular_values_step = 20;
  const HeadFigures known = MakeMeasurement(sums);
  EXPECT_EQ(known.scalars.numerical_rank(), 4);
  EXPECT_TRUE(known.scalars.has_row_anisotropy());
  EXPECT_EQ(known.scalars.singular_values_step(), 20);
  EXPECT_EQ(known.scalars.condition(), 3);
  EXPECT_TRUE(known.scalars.has_stable_rank());
  EXPECT_TRUE(known.scalars.has_error_ratio_at_half());
  EXPECT_THAT(known.singular_values, SizeIs(4));

  sums.singular_values.resize(0);
  sums.singular_values_rank = sums.singular_values_step = 0;
  const HeadFigures unknown = MakeMeasurement(sums);
  EXPECT_EQ(unknown.scalars.numerical_rank(), 4);
  EXPECT_EQ(unknown.scalars.row_anisotropy(), known.scalars.row_anisotropy());
  EXPECT_FALSE(unknown.scalars.has_singular_values_step());
  EXPECT_FALSE(unknown.scalars.has_condition());
  EXPECT_FALSE(unknown.scalars.has_singular_entropy());
  EXPECT_FALSE(unknown.scalars.has_stable_rank());
  EXPECT_FALSE(unknown.scalars.has_largest_singular_share());
  EXPECT_FALSE(unknown.scalars.has_error_ratio_at_eighth());
  EXPECT_FALSE(unknown.scalars.has_error_ratio_at_half());
  EXPECT_THAT(unknown.singular_values, SizeIs(0));
}

TEST(HeadFigures, OfAHeadOfZerosAreZeroAndNotAbsent) {
  HeadSums sums = SumsOfFourColumns();
  sums.singular_values.setZero();
  sums.rank = sums.singular_values_rank = 0;
  const proto::HeadRecord scalars = MakeMeasurement(sums).scalars;
  for (const char* name : {"condition", "singular_entropy", "stable_rank", "largest_singular_share",
                           "error_ratio_at_eighth", "error_ratio_at_quarter", "error_ratio_at_half"}) {
    const auto* field = proto::HeadRecord::descriptor()->FindFieldByName(name);
    ASSERT_TRUE(scalars.GetReflection()->HasField(scalars, field)) << name;
    EXPECT_EQ(scalars.GetReflection()->GetDouble(scalars, field), 0) << name;
  }
  EXPECT_EQ(scalars.isotropic_lost_norm_ratio(), 1);
}

TEST(HeadFigures, MadeOfSquaresThatVanishAreAbsent) {
  HeadSums sums = SumsOfFourColumns();
  sums.shards[0].logit_gradient_energy = 1e-290;
  const HeadFigures head = MakeMeasurement(sums);
  EXPECT_THAT(head.not_measured, ::testing::HasSubstr("squares of the logit gradient"));
  const proto::HeadRecord& scalars = head.scalars;
  EXPECT_FALSE(scalars.has_logit_gradient_norm());
  EXPECT_FALSE(scalars.has_target_energy_share());
  EXPECT_FALSE(scalars.has_update_cosine());
  EXPECT_FALSE(scalars.has_hidden_update_cosine());
  EXPECT_FALSE(scalars.has_decomposition_error());
  EXPECT_FALSE(scalars.has_best_rank_energy_ratio());
  EXPECT_FALSE(scalars.has_components_for_99_9_percent());
  EXPECT_FALSE(scalars.has_visible_cosine());
  EXPECT_TRUE(std::isnan(head.shards[0].logit_gradient_energy));
  EXPECT_TRUE(std::isnan(head.shards[0].retained_energy));
  EXPECT_THAT(head.sampled_singular_values, SizeIs(0));
  EXPECT_TRUE(scalars.has_target_coefficient());
  EXPECT_TRUE(scalars.has_isotropic_lost_norm_ratio());
  EXPECT_TRUE(scalars.has_condition());
  EXPECT_EQ(scalars.sampled_tokens(), 3);
  EXPECT_EQ(scalars.update_rank_bound(), 8);
}

TEST(HeadFigures, AnInfiniteConditionIsOne) {
  HeadSums sums = SumsOfFourColumns();
  sums.singular_values(3) = 0;  // a factorised head's may be lost in the rounding of its Gram matrix
  const proto::HeadRecord scalars = MakeMeasurement(sums).scalars;
  ASSERT_TRUE(scalars.has_condition());
  EXPECT_TRUE(std::isinf(scalars.condition()));
}

TEST(HeadFigures, ThatAreMeansOverTooFewRowsAreAbsent) {
  HeadSums sums = SumsOfFourColumns();
  EXPECT_TRUE(MakeMeasurement(sums).scalars.has_hidden_anisotropy());
  sums.zero_hidden_rows = 2;  // a mean over pairs of one row
  const proto::HeadRecord scalars = MakeMeasurement(sums).scalars;
  EXPECT_FALSE(scalars.has_hidden_anisotropy());
  EXPECT_TRUE(scalars.has_hidden_centred_anisotropy());
}

}  // namespace
}  // namespace isthmus::testing
