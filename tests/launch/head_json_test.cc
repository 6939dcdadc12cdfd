// The JSON of a decomposition has the figures that proto::HeadRecord declares.
#include "launch/commands/head_json.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/head_scalars.h"

namespace isthmus::testing {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

bool IsStepOfTraining(const google::protobuf::FieldDescriptor& field) { return absl::EndsWith(field.name(), "_step"); }

std::string NameInHeadJson(const google::protobuf::FieldDescriptor& field) {
  return field.has_json_name() ? field.json_name() : field.name();
}

TEST(HeadJson, HasEveryScalarOfTheRecordButStepsOfTraining) {
  HeadFigures head;
  head.scalars = AllHeadScalars();
  const auto json = nlohmann::json::parse(HeadJson(head));
  for (const auto* field : HeadScalarFields()) {
    SCOPED_TRACE(field->name());
    const std::string name = NameInHeadJson(*field);
    ASSERT_EQ(json.contains(name), !IsStepOfTraining(*field));
    if (IsStepOfTraining(*field)) continue;
    EXPECT_EQ(json[name].get<double>(), ScalarOf(*field));
    EXPECT_EQ(json[name].is_number_integer(), field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64);
  }
  EXPECT_TRUE(json.contains("head_condition"));
  EXPECT_FALSE(json.contains("not_measured"));
}

TEST(HeadJson, AbsentScalarsAreNullAndNamedWithTheReason) {
  HeadFigures head;
  head.scalars = AllHeadScalars();
  head.scalars.clear_lost_norm_ratio();
  head.scalars.clear_row_anisotropy();
  head.scalars.clear_components_for_70_percent();
  auto json = nlohmann::json::parse(HeadJson(head));
  for (const char* name : {"lost_norm_ratio", "head_row_anisotropy", "components_for_70_percent"}) {
    ASSERT_TRUE(json.contains(name)) << name;
    EXPECT_TRUE(json[name].is_null()) << name;
  }
  EXPECT_EQ(json["not_measured"],
            "lost_norm_ratio, components_for_70_percent, head_row_anisotropy: beyond the range of float64, or a mean "
            "over fewer than two rows that are not zero");

  json = nlohmann::json::parse(HeadJson({.not_measured = "squares vanish"}));
  const std::vector<std::string> parts = absl::StrSplit(json["not_measured"].get<std::string>(), ": ");
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[1], "squares vanish");
  const std::vector<std::string> names = absl::StrSplit(parts[0], ", ");
  for (const auto* field : HeadScalarFields()) {
    if (IsStepOfTraining(*field)) {
      EXPECT_THAT(names, Not(Contains(NameInHeadJson(*field))));
    } else {
      EXPECT_THAT(names, Contains(NameInHeadJson(*field)));
    }
  }
}

TEST(HeadJson, HasLossesAfterStepsOnlyIfTheyWereFound) {
  HeadFigures head;
  head.scalars = AllHeadScalars();
  EXPECT_FALSE(nlohmann::json::parse(HeadJson(head)).contains("equal_norm_steps"));
  head.equal_norm_steps = {.tokens = 7, .loss_before = 2.5};
  for (EqualNormSteps::Along& along : head.equal_norm_steps->along) along.losses = {9, 8, 7, 6, 5, 5, 6, 7, 8, 9, 10};
  const auto json = nlohmann::json::parse(HeadJson(head));
  EXPECT_FALSE(json.contains("not_measured"));
  const auto& steps = json["equal_norm_steps"];
  EXPECT_EQ(steps["tokens"], 7);
  EXPECT_EQ(steps["loss_before"], 2.5);
  EXPECT_EQ(steps["sizes"], kStepSizes);
  for (const char* name : kStepDirectionNames) {
    SCOPED_TRACE(name);
    EXPECT_EQ(steps[name]["losses"], head.equal_norm_steps->along[0].losses);
    EXPECT_EQ(steps[name]["best_loss"], 5);
    EXPECT_EQ(steps[name]["best_size"], kStepSizes[4]) << "the smaller one of two that are alike";
  }
}

TEST(HeadJson, StepsThatWereNotTakenAreNullWithTheirReasons) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  HeadFigures head;
  head.scalars = AllHeadScalars();
  auto& along = head.equal_norm_steps.emplace().along;
  along[kFullStep].losses = {kNaN, 4, kNaN, 3, kNaN, kNaN, kNaN, kNaN, kNaN, kNaN, kNaN};
  along[kVisibleStep].not_measured = along[kHiddenStep].not_measured = "it passes nothing on";
  along[kBestRankStep].losses.fill(kNaN);
  const auto json = nlohmann::json::parse(HeadJson(head));
  const auto& steps = json["equal_norm_steps"];
  EXPECT_EQ(steps["full"]["best_loss"], 3);
  EXPECT_EQ(steps["full"]["best_size"], kStepSizes[3]);
  EXPECT_TRUE(steps["visible"].is_null());
  EXPECT_TRUE(steps["hidden"].is_null());
  EXPECT_TRUE(steps["best_rank"]["best_loss"].is_null());
  const std::string reasons = json["not_measured"];
  EXPECT_THAT(reasons, HasSubstr("equal_norm_steps.full.losses.10, equal_norm_steps.best_rank.losses.0, "));
  EXPECT_THAT(reasons, HasSubstr("equal_norm_steps.best_rank.best_size: beyond the range of float64"));
  EXPECT_THAT(reasons, EndsWith("; equal_norm_steps.visible, equal_norm_steps.hidden: it passes nothing on"));
}

TEST(HeadJson, HasIntervalsAndControlsOnlyIfTheyWereFound) {
  HeadFigures head;
  head.scalars = AllHeadScalars();
  auto json = nlohmann::json::parse(HeadJson(head));
  EXPECT_FALSE(json.contains("bootstrap"));
  EXPECT_FALSE(json.contains("controls"));
  HeadIntervals& intervals = head.intervals.emplace();
  intervals.blocks = 3;
  intervals.block_tokens = 5;
  intervals.resamples = intervals.all.resamples = 100;
  intervals.all.tokens = intervals.target_buckets[1].tokens = 15;
  for (HeadIntervals::Figures* figures : {&intervals.all, &intervals.target_buckets[1]}) {
    figures->lost_norm_ratio = {3, 2, 4};
    figures->visible_cosine = figures->alignment_gain = figures->lost_energy_ratio = {6, 5, 7};
  }
  HeadControls::Control control = ControlOf({0.04, 0.16, 0.09}, 0.35, 1, 4);
  head.controls = {.draws = 3, .isotropic_visible_cosine = 0.5, .isotropic_lost_norm_ratio = 0.75};
  head.controls->random_head = head.controls->random_hidden = control;
  json = nlohmann::json::parse(HeadJson(head));
  EXPECT_FALSE(json.contains("not_measured")) << json["not_measured"];
  const nlohmann::json interval = {{"value", 3}, {"low", 2}, {"high", 4}};
  EXPECT_EQ(json["bootstrap"]["lost_norm_ratio"], interval);
  EXPECT_EQ(json["bootstrap"]["blocks"], 3);
  EXPECT_EQ(json["bootstrap"]["block_tokens"], 5);
  EXPECT_EQ(json["bootstrap"]["confidence"], 0.95);
  EXPECT_EQ(json["bootstrap"]["target_buckets"][1]["lost_norm_ratio"], interval);
  EXPECT_FALSE(json["bootstrap"]["target_buckets"][0].contains("lost_norm_ratio")) << "it has no tokens";
  const nlohmann::json& found = json["controls"]["random_head"];
  EXPECT_NEAR(found["visible_cosine"]["mean"].get<double>(), 0.3, 1e-15);
  EXPECT_NEAR(found["visible_cosine"]["deviation"].get<double>(), 0.1, 1e-15);
  EXPECT_NEAR(found["alignment_gain"]["mean"].get<double>(), 0.6, 1e-15);
  EXPECT_NEAR(found["deviations_above"].get<double>(), 0.5, 1e-12);
  EXPECT_EQ(found["draws_below"], 2);
  EXPECT_EQ(found["visible_cosines"].size(), 3u);
}

TEST(HeadJson, IntervalsAndControlsThatAreNotKnownAreNullWithTheirReasons) {
  HeadFigures head;
  head.scalars = AllHeadScalars();
  HeadControls& controls = head.controls.emplace();
  controls.random_head = ControlOf({1, 1}, 1, 4, 4);
  controls.random_hidden = ControlOf({0.25, 0.5}, 0.6, 2, 4);
  auto json = nlohmann::json::parse(HeadJson(head));
  EXPECT_TRUE(json["controls"]["random_head"]["deviations_above"].is_null());
  EXPECT_EQ(json["not_measured"], "controls.random_head.deviations_above: all draws are alike");
  head.not_measured = "squares vanish";
  head.controls.emplace();
  head.intervals.emplace();
  json = nlohmann::json::parse(HeadJson(head));
  EXPECT_TRUE(json["bootstrap"]["lost_norm_ratio"]["low"].is_null());
  EXPECT_TRUE(json["controls"]["random_hidden"]["visible_cosine"]["mean"].is_null());
  EXPECT_THAT(json["not_measured"], HasSubstr("bootstrap.lost_norm_ratio.low"));
  EXPECT_THAT(json["not_measured"], HasSubstr("controls.random_hidden.deviations_above: squares vanish"));
}

}  // namespace
}  // namespace isthmus::testing
