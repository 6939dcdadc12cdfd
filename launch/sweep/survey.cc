#include "launch/sweep/survey.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

namespace isthmus::sweep {
namespace {

// Values are written with six digits, and so they are used: a folder's name tells the whole value.
std::string ValueText(double value) { return absl::StrCat(value); }

// Combinations of the axes' values, the last axis fastest.
std::vector<std::vector<const proto::SweepChoice*>> Cells(const proto::SweepConfig& config) {
  std::vector<std::vector<const proto::SweepChoice*>> cells(1);
  for (const proto::SweepAxis& axis : config.axes()) {
    std::vector<std::vector<const proto::SweepChoice*>> longer;
    for (const auto& cell : cells) {
      for (const proto::SweepChoice& value : axis.values()) {
        longer.push_back(cell);
        longer.back().push_back(&value);
      }
    }
    cells = std::move(longer);
  }
  return cells;
}

// Follows one arm from tuning to tuning, up to the runs that it lacks.
class ArmWalk {
 public:
  ArmWalk(const proto::SweepConfig& config, const RunResults& results,
          const std::vector<const proto::SweepChoice*>& cell, const proto::SweepChoice& arm)
      : config_(config), results_(results) {
    survey_.arm = arm.name();
    overrides_.assign(config.set().begin(), config.set().end());
    std::vector<std::string> parts;
    for (size_t i = 0; i < cell.size(); ++i) {
      survey_.cell.push_back(cell[i]->name());
      parts.push_back(absl::StrCat(config.axes(static_cast<int>(i)).name(), "=", cell[i]->name()));
      overrides_.insert(overrides_.end(), cell[i]->set().begin(), cell[i]->set().end());
    }
    folder_ = cell.empty() ? arm.name() : absl::StrCat(absl::StrJoin(parts, ","), "/", arm.name());
    overrides_.insert(overrides_.end(), arm.set().begin(), arm.set().end());
  }

  ArmSurvey Take() {
    for (int stage = 0; stage < config_.tunings_size(); ++stage) {
      if (!Has(config_.tunings(stage)) || Tune(config_.tunings(stage))) continue;
      for (int later = stage + 1; later < config_.tunings_size(); ++later) {
        if (!Has(config_.tunings(later))) continue;
        survey_.later += config_.tunings(later).values_size() * config_.tunings(later).seeds();
      }
      survey_.later += config_.seeds_size();
      return std::move(survey_);
    }
    for (const uint64_t seed : config_.seeds()) {
      const PlannedRun run = Run({}, "", seed);
      survey_.seeds.push_back({seed, run.name, ResultOf(run)});
    }
    return std::move(survey_);
  }

 private:
  bool Has(const proto::SweepTuning& tuning) const {
    return std::find(tuning.without().begin(), tuning.without().end(), survey_.arm) == tuning.without().end();
  }

  // Returns the run of one seed, with settings that are decided and `set` of the setting `name` that is not.
  PlannedRun Run(const std::vector<std::string>& set, const std::string& setting, uint64_t seed) const {
    PlannedRun run{folder_, overrides_};
    std::vector<std::string> settings = settings_;
    if (!setting.empty()) settings.push_back(setting);
    if (!settings.empty()) absl::StrAppend(&run.name, "/", absl::StrJoin(settings, ","));
    absl::StrAppend(&run.name, "/seed-", seed);
    run.overrides.insert(run.overrides.end(), set.begin(), set.end());
    run.overrides.push_back(absl::StrCat("seed=", seed));
    return run;
  }

  // Returns its result, or notes that it is needed.
  std::optional<RunResult> ResultOf(const PlannedRun& run) {
    const auto found = results_.find(run.name);
    if (found == results_.end()) {
      survey_.needed.push_back(run);
      return std::nullopt;
    }
    if (found->second.end == RunResult::End::kFailed) {
      survey_.problems.push_back(absl::StrCat(run.name, " failed: ", found->second.reason));
    }
    return found->second;
  }

  // Adds the mean loss of a value over the tuning seeds. A failed run is left out of it.
  void Measure(const proto::SweepTuning& tuning, double value, TunedSetting& setting) {
    double sum = 0;
    int64_t ended = 0, missing = 0;
    for (int i = 0; i < tuning.seeds(); ++i) {
      std::vector<std::string> set = Overrides(tuning, value);
      set.insert(set.end(), tuning.while_tuning().begin(), tuning.while_tuning().end());
      PlannedRun run = Run(set, Text(tuning, value), config_.seeds(i));
      if (!tuning.while_tuning().empty()) run.name += "-tuning";
      const std::optional<RunResult> result = ResultOf(run);
      if (!result.has_value()) {
        ++missing;
      } else if (result->end != RunResult::End::kFailed) {
        sum += result->end == RunResult::End::kDiverged ? std::numeric_limits<double>::infinity() : result->loss;
        ++ended;
      }
    }
    if (missing == 0 && ended > 0) setting.values.push_back({value, sum / static_cast<double>(ended)});
  }

  static std::string Text(const proto::SweepTuning& tuning, double value) {
    return absl::StrCat(tuning.name(), "=", ValueText(value));
  }
  static std::vector<std::string> Overrides(const proto::SweepTuning& tuning, double value) {
    std::vector<std::string> overrides;
    for (const std::string& set : tuning.set()) {
      overrides.push_back(absl::StrReplaceAll(set, {{"{}", ValueText(value)}}));
    }
    return overrides;
  }

  // Tunes one setting as far as results go. Returns whether it is decided.
  bool Tune(const proto::SweepTuning& tuning) {
    survey_.tunings.push_back({.name = tuning.name()});
    std::set<double> values(tuning.values().begin(), tuning.values().end());
    for (int64_t extensions = 0;; ++extensions) {
      TunedSetting& setting = survey_.tunings.back();
      setting.values.clear();
      const size_t problems = survey_.problems.size();
      for (const double value : values) Measure(tuning, value, setting);
      if (!survey_.needed.empty()) return false;
      const auto best = FindBestRate(setting.values);
      if (!best.ok()) {
        survey_.problems.push_back(absl::StrCat(tuning.name(), ": ", best.status().message()));
        return false;
      }
      const std::optional<double> next = extensions < tuning.extend() ? Beyond(values, *best) : std::nullopt;
      if (!next.has_value() || !values.insert(*next).second) {
        setting.best = best.value();
        Keep(tuning, best->rate);
        return true;
      }
      survey_.problems.resize(problems);  // the next round finds them again
    }
  }

  // Returns the value beyond the best one, where that is an end.
  static std::optional<double> Beyond(const std::set<double>& values, const BestRate& best) {
    if (best.inside || values.size() < 2) return std::nullopt;
    const bool lowest = best.rate == *values.begin();
    if (!lowest && best.rate != *values.rbegin()) return std::nullopt;  // beyond it runs failed
    const double neighbour = lowest ? *std::next(values.begin()) : *std::prev(values.end(), 2);
    const double next = best.rate * (best.rate / neighbour);
    return std::isfinite(next) && next > 0 ? std::optional(std::stod(ValueText(next))) : std::nullopt;
  }

  void Keep(const proto::SweepTuning& tuning, double value) {
    settings_.push_back(Text(tuning, value));
    const std::vector<std::string> overrides = Overrides(tuning, value);
    overrides_.insert(overrides_.end(), overrides.begin(), overrides.end());
  }

  const proto::SweepConfig& config_;
  const RunResults& results_;
  std::string folder_;
  std::vector<std::string> settings_;   // decided ones: "rate=0.001"
  std::vector<std::string> overrides_;  // of the sweep, the cell, the arm and decided settings
  ArmSurvey survey_;
};

}  // namespace

std::vector<ArmSurvey> SurveyArms(const proto::SweepConfig& config, const RunResults& results) {
  std::vector<ArmSurvey> arms;
  for (const auto& cell : Cells(config)) {
    for (const proto::SweepChoice& arm : config.arms()) arms.push_back(ArmWalk(config, results, cell, arm).Take());
  }
  return arms;
}

absl::StatusOr<Estimate> CompareArms(const ArmSurvey& arm, const ArmSurvey& baseline, double confidence,
                                     std::vector<std::string>& missing) {
  std::vector<double> first, second;
  const auto finished = [](const SeedResult& seed) {
    return seed.result.has_value() && seed.result->end == RunResult::End::kFinished;
  };
  for (size_t i = 0; i < std::min(arm.seeds.size(), baseline.seeds.size()); ++i) {
    if (finished(arm.seeds[i]) && finished(baseline.seeds[i])) {
      first.push_back(arm.seeds[i].result->loss);
      second.push_back(baseline.seeds[i].result->loss);
    }
    for (const SeedResult* seed : {&arm.seeds[i], &baseline.seeds[i]}) {
      if (!finished(*seed)) missing.push_back(seed->run);
    }
  }
  return EstimateDifference(first, second, confidence);
}

}  // namespace isthmus::sweep
