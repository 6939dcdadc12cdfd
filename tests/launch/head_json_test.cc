// The JSON of a decomposition has the figures that proto::HeadRecord declares.
#include "launch/commands/head_json.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/head_scalars.h"

namespace isthmus::testing {
namespace {

using ::testing::Contains;
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

}  // namespace
}  // namespace isthmus::testing
