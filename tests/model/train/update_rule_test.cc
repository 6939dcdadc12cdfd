// Every optimizer takes the steps that another implementation takes (tools/golden/optimizers.py).
#include "model/train/update_rule.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "parallel/communicator.h"
#include "tests/support/paths.h"
#include "tests/support/reference.h"

namespace isthmus::testing {
namespace {

const nlohmann::json& GoldenSteps() {
  static const auto* golden =
      new nlohmann::json(nlohmann::json::parse(std::ifstream(SourceFolder() + "/tests/golden/optimizers.json")));
  return *golden;
}

// Takes the steps of a case in one type. `spoil` is added to the last gradient's first element.
std::vector<double> Steps(const nlohmann::json& golden, DType dtype, double spoil = 0) {
  const auto rows = golden["rows"].get<int64_t>(), columns = golden["columns"].get<int64_t>();
  const UpdateRule& rule = *FindUpdateRule(golden["optimizer"].get<std::string>());
  const ParameterSpec spec = {.name = "w", .rows = rows, .columns = columns, .shard = {0, rows}};
  const auto filled = [&](const std::vector<double>& values) {
    reference::Matrix matrix(1, rows * columns);
    matrix.values = values;
    return reference::Buffer(dtype, matrix);
  };
  const reference::Buffer weight = filled(golden["weight"].get<std::vector<double>>());
  std::list<reference::Buffer> memory;
  OwnedElements owned = {.spec = &spec, .elements = {0, rows * columns}, .weight = weight};
  for (size_t i = 0; i < rule.state.size(); ++i) memory.emplace_back(dtype, 1, rows * columns);
  owned.state.assign(memory.begin(), memory.end());
  const int64_t scratch_size = rule.scratch ? rule.scratch(spec) : 1;
  const reference::Buffer scratch(dtype, 1, scratch_size);
  const auto self = MakeSelfCommunicator();
  const Mesh mesh = *Mesh::Create(*self, 1, 1);
  const nlohmann::json& settings = GoldenSteps()["settings"];
  int64_t step = 0;
  for (const nlohmann::json& values : golden["gradients"]) {
    std::vector<double> gradient = values.get<std::vector<double>>();
    if (++step == static_cast<int64_t>(golden["gradients"].size())) gradient[0] += spoil;
    for (double& value : gradient) value *= 4;  // grad_scale takes it back
    const reference::Buffer given = filled(gradient);
    owned.gradient = given;
    const absl::Status status = rule.update(owned,
                                            {.step = step,
                                             .learning_rate = settings["rate"],
                                             .beta1 = settings["beta1"],
                                             .beta2 = settings["beta2"],
                                             .epsilon = settings["epsilon"],
                                             .weight_decay = settings["decay"],
                                             .grad_scale = 0.25},
                                            {mesh, false, scratch, reference::TestStream()});
    EXPECT_TRUE(status.ok()) << status;
  }
  return weight.Get().values;
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(UpdateRules, TakeTheStepsOfAnotherImplementation) {
  std::set<std::string> seen;
  for (const nlohmann::json& golden : GoldenSteps()["cases"]) {
    SCOPED_TRACE(absl::StrCat(golden["optimizer"].get<std::string>(), " ", golden["rows"].get<int>()));
    const auto expected = golden["result"].get<std::vector<double>>();
    EXPECT_LT(LargestDifference(Steps(golden, DType::kFloat64), expected), 1e-12);
    EXPECT_LT(LargestDifference(Steps(golden, DType::kFloat32), expected), 1e-5);
    // A last gradient that is wrong in one element is noticed.
    EXPECT_GT(LargestDifference(Steps(golden, DType::kFloat32, 0.1), expected), 1e-4);
    seen.insert(golden["optimizer"].get<std::string>());
  }
  // A new kind needs golden values, too.
  for (const std::string& name : UpdateRuleNames()) EXPECT_TRUE(seen.contains(name)) << name;
}

}  // namespace
}  // namespace isthmus::testing
