#include "model/train/parameter_groups.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "runtime/config_rules.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Each is a label of a metric.
constexpr int kMostGroups = 64;
constexpr size_t kLongestName = 64;

bool Matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

// Index of the first group that the name matches; -1 if there is none.
int GroupOf(const proto::OptimizerConfig& config, const std::string& name) {
  for (int i = 0; i < config.groups_size(); ++i) {
    for (const std::string& pattern : config.groups(i).parameters()) {
      if (Matches(pattern, name)) return i;
    }
  }
  return -1;
}

bool IsName(const std::string& name) {
  const auto is_part = [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_'; };
  return !name.empty() && name.size() <= kLongestName && std::all_of(name.begin(), name.end(), is_part);
}

// Returns what is wrong with the numbers of a group; empty: nothing.
std::string WrongNumber(const proto::ParameterGroupConfig& group) {
  // A smaller epsilon would be zero in fp32, and 0/0 the step of a weight without a gradient.
  constexpr double kLeastEpsilon = std::numeric_limits<float>::min();
  constexpr double kMostBeta = 0.999999999;  // as of the optimizer's own
  const auto number = [](const char* field, bool set, double found, bool accepted, const char* range) {
    return !set || (std::isfinite(found) && accepted) ? std::string()
                                                      : absl::StrCat(field, ": ", found, "; accepts ", range);
  };
  const auto beta = [&](const char* field, bool set, double found) {
    return number(field, set, found, found >= 0 && found <= kMostBeta, "0 to 0.999999999");
  };
  for (const std::string& wrong :
       {number("learning_rate_factor", group.has_learning_rate_factor(), group.learning_rate_factor(),
               group.learning_rate_factor() >= 0 && group.learning_rate_factor() <= ConfigRules::kLarge, "0 to 1e+30"),
        beta("beta1", group.has_beta1(), group.beta1()), beta("beta2", group.has_beta2(), group.beta2()),
        number("epsilon", group.has_epsilon(), group.epsilon(), group.epsilon() >= kLeastEpsilon,
               "finite numbers from 1.17549e-38 on"),
        number("weight_decay", group.has_weight_decay(), group.weight_decay(),
               group.weight_decay() >= 0 && group.weight_decay() <= ConfigRules::kLarge, "0 to 1e+30")}) {
    if (!wrong.empty()) return wrong;
  }
  return "";
}

// Returns what is wrong with a kind of optimizer; empty: nothing.
std::string WrongKind(const std::string& kind) {
  if (FindUpdateRule(kind) != nullptr) return "";
  return absl::StrCat("kind: \"", kind, "\"; accepts ", absl::StrJoin(UpdateRuleNames(), ", "));
}

}  // namespace

std::vector<proto::TensorRole> ParameterSettings::Kept(DType compute_type) const {
  std::vector<proto::TensorRole> roles;
  if (compute_type != AccumulationType(compute_type)) roles.push_back(proto::MASTER);
  roles.insert(roles.end(), rule->state.begin(), rule->state.end());
  return roles;
}

std::vector<ParameterSettings> SettingsOf(const proto::OptimizerConfig& config, const ParameterTable& table) {
  std::vector<ParameterSettings> all;
  for (const ParameterSpec& spec : table.specs) {
    ParameterSettings settings = {.group = GroupOf(config, spec.name),
                                  .rule = FindUpdateRule(config.kind()),
                                  .beta1 = config.beta1(),
                                  .beta2 = config.beta2(),
                                  .epsilon = config.epsilon(),
                                  .weight_decay = config.weight_decay()};
    if (settings.group >= 0) {
      const proto::ParameterGroupConfig& group = config.groups(settings.group);
      if (group.has_kind()) settings.rule = FindUpdateRule(group.kind());
      if (group.has_learning_rate_factor()) settings.learning_rate_factor = group.learning_rate_factor();
      if (group.has_beta1()) settings.beta1 = group.beta1();
      if (group.has_beta2()) settings.beta2 = group.beta2();
      if (group.has_epsilon()) settings.epsilon = group.epsilon();
      if (group.has_weight_decay()) settings.weight_decay = group.weight_decay();
    }
    if (!spec.decay) settings.weight_decay = 0;
    all.push_back(settings);
  }
  return all;
}

std::vector<ParameterGroupFigures> GroupFiguresOf(const proto::OptimizerConfig& config, const ParameterTable& table) {
  std::vector<ParameterGroupFigures> groups;
  for (const proto::ParameterGroupConfig& group : config.groups()) {
    groups.push_back({group.name(), group.has_learning_rate_factor() ? group.learning_rate_factor() : 1, 0});
  }
  for (const ParameterSpec& spec : table.specs) {
    const int group = GroupOf(config, spec.name);
    if (group >= 0) groups[static_cast<size_t>(group)].parameters += spec.rows * spec.columns;
  }
  return groups;
}

absl::Status CheckParameterGroups(const proto::OptimizerConfig& config, const ParameterTable& table,
                                  absl::string_view source) {
  const auto fail = [&](const proto::ParameterGroupConfig& group, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": optimizer.groups: group \"", group.name(), "\": ", what));
  };
  if (config.groups_size() > kMostGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": optimizer.groups: ", config.groups_size(), " groups; accepts up to ", kMostGroups));
  }
  if (const std::string wrong = WrongKind(config.kind()); !wrong.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": optimizer.", wrong));
  }
  std::set<std::string> names;
  for (const proto::ParameterGroupConfig& group : config.groups()) {
    if (!IsName(group.name())) {
      return fail(group, absl::StrCat("name: accepts 1 to ", kLongestName, " small letters, digits and _"));
    }
    if (!names.insert(group.name()).second) return fail(group, "name: two groups have it; give another");
    if (group.parameters_size() == 0) return fail(group, "parameters: none; name some, for example \"embedding.*\"");
    if (const std::string wrong = WrongNumber(group); !wrong.empty()) return fail(group, wrong);
    if (group.has_kind()) {
      if (const std::string wrong = WrongKind(group.kind()); !wrong.empty()) return fail(group, wrong);
    }
    for (const std::string& pattern : group.parameters()) {
      const bool any = std::any_of(table.specs.begin(), table.specs.end(),
                                   [&](const ParameterSpec& spec) { return Matches(pattern, spec.name); });
      if (!any) {
        return fail(group, absl::StrCat("parameters: \"", pattern, "\" matches none, which have names like \"",
                                        table.specs.front().name, "\" and \"", table.specs.back().name, "\""));
      }
    }
  }
  const std::vector<ParameterSettings> all = SettingsOf(config, table);
  for (size_t i = 0; i < all.size(); ++i) {
    const UpdateRule& rule = *all[i].rule;
    const std::string refusal = rule.refuse ? rule.refuse(table.specs[i]) : "";
    if (refusal.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(source, ": optimizer", all[i].group < 0 ? "" : ".groups", ": kind: ",
                                                   refusal, "; give such parameters a group with another kind"));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
