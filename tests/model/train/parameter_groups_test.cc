// Groups of parameters with settings of their own.
#include "model/train/parameter_groups.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "model/model.h"
#include "tests/support/case_name.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

proto::RunConfig ConfigWith(const std::string& groups) {
  proto::RunConfig config = TinyConfig({});
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(groups, config.mutable_optimizer())) << groups;
  return config;
}

constexpr char kGroups[] = R"(
  groups { name: "table" parameters: "embedding.*" learning_rate_factor: 3 beta2: 0.99 }
  groups { name: "vectors" parameters: "layers.*norm.weight" parameters: "final_norm.weight" weight_decay: 0.5 }
  groups { name: "queries" parameters: "layers.*.q_proj.weight" weight_decay: 0 epsilon: 1e-6 }
  groups { name: "attention" parameters: "layers.*.attention.*" learning_rate_factor: 0 }
)";

TEST(ParameterGroups, TheFirstGroupWithAPatternThatMatchesDecides) {
  const proto::RunConfig config = ConfigWith(kGroups);
  const ParameterTable table = ParametersOf(config);
  ASSERT_TRUE(CheckParameterGroups(config.optimizer(), table, "").ok());
  const std::vector<ParameterSettings> settings = SettingsOf(config.optimizer(), table);
  const auto of = [&](const char* name) { return settings[static_cast<size_t>(table.Find(name))]; };
  const ParameterSettings embedding = of("embedding.weight"), norm = of("layers.1.attention_norm.weight"),
                          query = of("layers.0.attention.q_proj.weight"), key = of("layers.0.attention.k_proj.weight"),
                          head = of("head.weight");
  EXPECT_EQ(embedding.group, 0);
  EXPECT_EQ(embedding.learning_rate_factor, 3);
  EXPECT_EQ(embedding.beta2, 0.99);
  EXPECT_EQ(embedding.weight_decay, config.optimizer().weight_decay());
  EXPECT_EQ(norm.group, 1);
  EXPECT_EQ(norm.weight_decay, 0) << "norms are never decayed";
  EXPECT_EQ(query.group, 2);
  EXPECT_EQ(query.epsilon, 1e-6);
  EXPECT_EQ(query.weight_decay, 0);
  EXPECT_EQ(key.group, 3);
  EXPECT_EQ(key.learning_rate_factor, 0);
  EXPECT_EQ(head.group, -1);
  EXPECT_EQ(head.beta1, config.optimizer().beta1());
  const std::vector<ParameterGroupFigures> groups = GroupFiguresOf(config.optimizer(), table);
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0].name, "table");
  EXPECT_EQ(groups[0].parameters, 509 * 16);
  EXPECT_EQ(groups[2].parameters, 2 * 16 * 16);
}

struct WrongGroup {
  std::string groups, message;
};

class WrongGroups : public ::testing::TestWithParam<WrongGroup> {};

TEST_P(WrongGroups, AreRefusedByName) {
  const proto::RunConfig config = ConfigWith(GetParam().groups);
  const absl::Status status = CheckParameterGroups(config.optimizer(), ParametersOf(config), "run.textproto");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("run.textproto: optimizer.groups: " + GetParam().message));
}

TEST(ParameterGroups, AnUnknownKindOfOptimizerIsRefused) {
  const proto::RunConfig config = ConfigWith("kind: 'lion'");
  const absl::Status status = CheckParameterGroups(config.optimizer(), ParametersOf(config), "run.textproto");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("run.textproto: optimizer.kind: \"lion\"; accepts adamw, amsgrad, sgd, muon"));
}

INSTANTIATE_TEST_SUITE_P(
    Each, WrongGroups,
    ::testing::Values(
        WrongGroup{"groups { parameters: '*' }", "group \"\": name: accepts"},
        WrongGroup{"groups { name: 'A b' parameters: '*' }", "group \"A b\": name: accepts"},
        WrongGroup{"groups { name: 'a' }", "group \"a\": parameters: none"},
        WrongGroup{"groups { name: 'a' parameters: 'embeding.*' }",
                   "group \"a\": parameters: \"embeding.*\" matches none"},
        WrongGroup{"groups { name: 'a' parameters: '*' } groups { name: 'a' parameters: '*' }",
                   "group \"a\": name: two"},
        WrongGroup{"groups { name: 'a' parameters: '*' learning_rate_factor: -1 }",
                   "group \"a\": learning_rate_factor: -1"},
        WrongGroup{"groups { name: 'a' parameters: '*' learning_rate_factor: inf }",
                   "group \"a\": learning_rate_factor"},
        WrongGroup{"groups { name: 'a' parameters: '*' beta1: 1 }", "group \"a\": beta1: 1; accepts 0 to 0.999999999"},
        WrongGroup{"groups { name: 'a' parameters: '*' epsilon: 0 }", "group \"a\": epsilon: 0"},
        WrongGroup{"groups { name: 'a' parameters: '*' epsilon: 1e-60 }", "group \"a\": epsilon: 1e-60; accepts"},
        WrongGroup{"groups { name: 'a' parameters: '*' learning_rate_factor: 1e300 }",
                   "group \"a\": learning_rate_factor: 1e+300; accepts 0 to 1e+30"},
        WrongGroup{"groups { name: 'a' parameters: '*' weight_decay: 1e300 }",
                   "group \"a\": weight_decay: 1e+300; accepts 0 to 1e+30"},
        WrongGroup{"groups { name: 'a' parameters: '*' kind: 'adam' }",
                   "group \"a\": kind: \"adam\"; accepts adamw, amsgrad, sgd, muon"},
        WrongGroup{"groups { name: 'a' parameters: '*' kind: 'muon' }",
                   "kind: muon accepts matrices; layers.0.attention_norm.weight is [1, 16]"},
        WrongGroup{"groups { name: 'a' parameters: '*' weight_decay: nan }", "group \"a\": weight_decay: nan"}),
    CaseName<&WrongGroup::message>());

// Adam's first step moves a weight by the learning rate, whatever its gradient.
TEST(ParameterGroups, TheOptimizerMovesEachGroupByItsOwnRate) {
  proto::RunConfig config = ConfigWith(kGroups);
  config.mutable_optimizer()->set_weight_decay(0);
  const auto self = MakeSelfCommunicator();
  Stream stream;
  const auto mesh = Mesh::Create(*self, 1, 1, stream);
  ASSERT_TRUE(mesh.ok());
  auto model = TrainingModel::Create(config, *mesh, stream);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->InitializeWeights(7).ok());
  const auto values = [&](const char* name) {
    const Tensor weight = (*model)->parameters().Weight(name);
    std::vector<double> all;
    for (int64_t i = 0; i < weight.size(); ++i) all.push_back(ElementOf(weight, i));
    return all;
  };
  const char* const names[] = {"embedding.weight", "layers.0.attention.k_proj.weight", "head.weight"};
  std::vector<std::vector<double>> before;
  for (const char* name : names) before.push_back(values(name));
  TokenBatch batch = MakeBatch({}, 1);
  constexpr double kRate = 1e-3;
  ASSERT_TRUE((*model)
                  ->Step({.ids = PartOf(batch.ids, 0, 1),
                          .targets = PartOf(batch.targets, 0, 1),
                          .step = 1,
                          .learning_rate = kRate})
                  .ok());
  const double factors[] = {3, 0, 1};
  for (size_t n = 0; n < 3; ++n) {
    const std::vector<double> after = values(names[n]);
    double most = 0;
    for (size_t i = 0; i < after.size(); ++i) most = std::max(most, std::abs(after[i] - before[n][i]));
    EXPECT_NEAR(most, factors[n] * kRate, 1e-3 * kRate) << names[n];
  }
  EXPECT_EQ((*model)->optimizer().groups().front().name, "table");
}

}  // namespace
}  // namespace isthmus::testing
