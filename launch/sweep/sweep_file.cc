#include "launch/sweep/sweep_file.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "runtime/config.h"
#include "runtime/config_rules.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/text_format.h"

namespace isthmus::sweep {
namespace {

constexpr size_t kMostNameBytes = 100;
constexpr int64_t kMostExtensions = 20;
constexpr char kNames[] = "accepts 1 to 100 letters, digits, '.', '_' and '-', not '.' first, each name once";

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kMostNameBytes && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("._-", std::string(1, c));
         });
}

// Judges names, which are all of one list, and overrides.
class SweepRules {
 public:
  explicit SweepRules(ConfigRules& rules) : rules_(rules) {}

  void Name(absl::string_view field, const std::string& name, std::set<std::string>& taken) {
    rules_.Require(IsName(name) && taken.insert(name).second, field, absl::StrCat("\"", name, "\""), kNames);
  }
  template <typename Overrides>
  void Set(absl::string_view field, const Overrides& overrides) {
    for (const std::string& override : overrides) {
      rules_.Require(absl::StrContains(override, "="), field, absl::StrCat("\"", override, "\""),
                     "accepts path=value, as after --set");
      for (const char* own : {"seed=", "folder="}) {
        rules_.Require(!absl::StartsWith(override, own), field, absl::StrCat("\"", override, "\""),
                       "the sweep sets seed and folder of its runs itself");
      }
    }
  }
  template <typename List>
  void Choices(absl::string_view field, const List& choices) {
    rules_.Require(!choices.empty(), field, "empty", "needs one at least");
    std::set<std::string> taken;
    for (const proto::SweepChoice& choice : choices) {
      Name(absl::StrCat(field, ".name"), choice.name(), taken);
      Set(absl::StrCat(field, ".set"), choice.set());
    }
  }

 private:
  ConfigRules& rules_;
};

template <typename List>
void CheckArms(absl::string_view field, const List& names, const proto::SweepConfig& config, ConfigRules& rules) {
  for (const std::string& name : names) {
    const bool known = std::any_of(config.arms().begin(), config.arms().end(),
                                   [&](const proto::SweepChoice& arm) { return arm.name() == name; });
    rules.Require(known, field, absl::StrCat("\"", name, "\""), "accepts the name of an arm");
  }
}

void CheckTunings(const proto::SweepConfig& config, ConfigRules& rules) {
  SweepRules sweep(rules);
  std::set<std::string> taken;
  for (const proto::SweepTuning& tuning : config.tunings()) {
    sweep.Name("tunings.name", tuning.name(), taken);
    sweep.Set("tunings.set", tuning.set());
    const bool has_place = std::all_of(tuning.set().begin(), tuning.set().end(),
                                       [](const std::string& set) { return absl::StrContains(set, "{}"); });
    rules.Require(has_place && !tuning.set().empty(), "tunings.set", tuning.name(),
                  "needs overrides, each with {} in place of the value");
    rules.Require(!tuning.values().empty(), "tunings.values", "empty", "needs one at least");
    std::set<double> values;
    for (const double value : tuning.values()) {
      rules.Require(std::isfinite(value) && value > 0 && values.insert(value).second, "tunings.values", value,
                    "accepts finite numbers above 0, each once");
    }
    rules.Within(1, std::max(1, config.seeds_size()), "tunings.seeds", tuning.seeds());
    rules.Within(0, kMostExtensions, "tunings.extend", tuning.extend());
    sweep.Set("tunings.while_tuning", tuning.while_tuning());
    CheckArms("tunings.without", tuning.without(), config, rules);
  }
}

void CheckFigures(const proto::SweepConfig& config, ConfigRules& rules) {
  std::set<std::string> keys, names;
  for (const proto::SweepFigure& figure : config.figures()) {
    rules.Require(!figure.key().empty() && keys.insert(figure.key()).second, "figures.key",
                  absl::StrCat("\"", figure.key(), "\""), "accepts keys of metrics.jsonl, each once");
    rules.Require(!figure.map() || config.axes_size() == 2, "figures.map", absl::StrCat(config.axes_size(), " axes"),
                  "a map needs two axes");
  }
  for (const proto::SweepRegression& regression : config.regressions()) {
    SweepRules(rules).Name("regressions.name", regression.name(), names);
    rules.Require(!regression.figures().empty(), "regressions.figures", "empty", "needs one at least");
    for (const std::string& key : regression.figures()) {
      rules.Require(keys.count(key) > 0, "regressions.figures", absl::StrCat("\"", key, "\""),
                    "accepts keys of the sweep's figures");
    }
    CheckArms("regressions.without", regression.without(), config, rules);
  }
}

void CheckDecomposition(const proto::SweepConfig& config, ConfigRules& rules) {
  constexpr int64_t kMostTokens = int64_t{1} << 31, kMostResamples = 100'000, kMostDraws = 10'000;
  const proto::SweepDecomposition& decomposition = config.decomposition();
  std::set<std::string> names;
  for (const proto::SweepCheckpoint& checkpoint : decomposition.checkpoints()) {
    SweepRules(rules).Name("decomposition.checkpoints.name", checkpoint.name(), names);
    rules.Require(!checkpoint.path().empty(), "decomposition.checkpoints.path", "\"\"",
                  "needs the path of a checkpoint or of a run folder");
  }
  rules.Within(1, kMostTokens, "decomposition.tokens", decomposition.tokens());
  std::set<int64_t> lengths;
  for (const int64_t length : decomposition.sequence_lengths()) {
    // An interval needs two sequences to draw from.
    rules.Require(length >= 1 && length <= decomposition.tokens() / 2 && lengths.insert(length).second,
                  "decomposition.sequence_lengths", length, "accepts 1 to half of decomposition.tokens, each once");
  }
  rules.Within(1, kMostResamples, "decomposition.resamples", decomposition.resamples());
  const int64_t draws = decomposition.control_draws();
  rules.Require(draws == 0 || (draws >= 2 && draws <= kMostDraws), "decomposition.control_draws", draws,
                "accepts 0 (none), and 2 to 10000 for an interval");
  CheckArms("decomposition.without", decomposition.without(), config, rules);
}

// Without arms there are only checkpoints to look at.
void CheckLone(const proto::SweepConfig& config, ConfigRules& rules) {
  const bool lone = config.axes().empty() && config.tunings().empty() && config.figures().empty() &&
                    config.regressions().empty() && config.seeds().empty() && config.baseline().empty();
  rules.Require(lone, "arms", "empty", "needs one at least for axes, tunings, figures, regressions, seeds, a baseline");
}

void CheckSize(const proto::SweepConfig& config, ConfigRules& rules) {
  double runs = static_cast<double>(config.seeds_size()) * config.arms_size();
  for (const proto::SweepTuning& tuning : config.tunings()) {
    runs += static_cast<double>(tuning.seeds()) * tuning.values_size() * config.arms_size();
  }
  for (const proto::SweepAxis& axis : config.axes()) runs *= axis.values_size();
  rules.Require(runs <= static_cast<double>(kMostRuns), "arms, axes, seeds and tunings", absl::StrCat(runs, " runs"),
                absl::StrCat("accepts ", kMostRuns, " at most"));
}

void CheckComparison(const proto::SweepConfig& config, ConfigRules& rules) {
  SweepRules sweep(rules);
  rules.Require(!config.base().empty(), "base", "\"\"", "needs the path of a run configuration");
  sweep.Set("set", config.set());
  std::set<std::string> axes;
  for (const proto::SweepAxis& axis : config.axes()) {
    sweep.Name("axes.name", axis.name(), axes);
    sweep.Choices("axes.values", axis.values());
  }
  sweep.Choices("arms", config.arms());
  if (!config.baseline().empty()) CheckArms("baseline", std::vector{config.baseline()}, config, rules);
  rules.Require(!config.seeds().empty(), "seeds", "empty", "needs one at least; intervals need two");
  rules.Require(std::set<uint64_t>(config.seeds().begin(), config.seeds().end()).size() ==
                    static_cast<size_t>(config.seeds_size()),
                "seeds", "a seed twice", "accepts each once");
  CheckTunings(config, rules);
  CheckFigures(config, rules);
  CheckSize(config, rules);
}

absl::Status CheckSweep(const proto::SweepConfig& config, const std::string& path) {
  ConfigRules rules(path);
  rules.Require(!config.folder().empty(), "folder", "\"\"", "needs the path of a folder");
  rules.Require(config.confidence() > 0 && config.confidence() < 1, "confidence", config.confidence(),
                "accepts numbers between 0 and 1");
  if (config.arms().empty() && !config.decomposition().checkpoints().empty()) {
    CheckLone(config, rules);
  } else {
    CheckComparison(config, rules);
  }
  CheckDecomposition(config, rules);
  return rules.status();
}

}  // namespace

absl::StatusOr<proto::SweepConfig> LoadSweep(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostConfigBytes));
  proto::SweepConfig config;
  ISTHMUS_RETURN_IF_ERROR(ParseTextFormat(text, path, config));
  ISTHMUS_RETURN_IF_ERROR(CheckSweep(config, path));
  const auto from_file = [&](const std::string& other) {
    return (std::filesystem::path(path).parent_path() / other).lexically_normal().string();
  };
  if (!config.base().empty()) config.set_base(from_file(config.base()));
  if (config.has_decomposition()) {
    for (proto::SweepCheckpoint& checkpoint : *config.mutable_decomposition()->mutable_checkpoints()) {
      checkpoint.set_path(from_file(checkpoint.path()));
      if (!checkpoint.corpus().empty()) checkpoint.set_corpus(from_file(checkpoint.corpus()));
    }
  }
  if (config.baseline().empty() && !config.arms().empty()) config.set_baseline(config.arms(0).name());
  return config;
}

}  // namespace isthmus::sweep
