#include "launch/sweep/decomposition_results.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "launch/sweep/results.h"

namespace isthmus::sweep {

std::vector<DecompositionResult> DecompositionResultsOf(const proto::SweepConfig& config,
                                                        absl::Span<const PlannedDecomposition> planned,
                                                        const RunResults& ended) {
  std::vector<DecompositionResult> results;
  for (const PlannedDecomposition& one : planned) {
    DecompositionResult& result = results.emplace_back(DecompositionResult{.planned = one});
    const auto end = ended.find(one.name);
    if (end == ended.end()) {
      result.problem = "has not been made yet";
    } else if (end->second.end != RunResult::End::kFinished) {
      result.problem = end->second.reason;
    } else if (auto figures = ReadDecomposition(FiguresPath(FolderOfDecomposition(config, one))); figures.ok()) {
      result.figures = *std::move(figures);
    } else {
      result.problem = std::string(figures.status().message());
    }
  }
  return results;
}

std::vector<DecompositionGroup> GroupsOf(const proto::SweepConfig& config,
                                         absl::Span<const DecompositionResult> results) {
  std::vector<DecompositionGroup> groups;
  for (const DecompositionResult& result : results) {
    if (!result.figures.has_value()) continue;
    const PlannedDecomposition& planned = result.planned;
    const bool given = !planned.given.empty();
    const std::string cell = given ? "" : CellText(config, {.cell = planned.cell});
    const std::string& name = given ? planned.given : planned.arm;
    const int64_t length = result.figures->sequence_length;
    // A checkpoint may have the name of an arm.
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const DecompositionGroup& group) {
      return !given && group.cell == cell && group.name == name && group.sequence_length == length;
    });
    if (same != groups.end()) {
      same->seeds.push_back(&*result.figures);
    } else {
      groups.push_back({.cell = cell, .name = name, .sequence_length = length, .seeds = {&*result.figures}});
    }
  }
  return groups;
}

Measured OverSeeds(const DecompositionGroup& group, const std::function<Measured(const DecompositionFigures&)>& figure,
                   double confidence) {
  std::vector<double> values;
  Measured lone;
  for (const DecompositionFigures* seed : group.seeds) {
    const Measured measured = figure(*seed);
    if (!std::isfinite(measured.value)) continue;
    values.push_back(measured.value);
    lone = measured;
  }
  const auto mean = EstimateMean(values, confidence);
  return mean.ok() ? Measured{.value = mean->mean, .interval = mean->student} : lone;
}

Measured ControlOverSeeds(const DecompositionGroup& group, std::optional<ControlGain> DecompositionFigures::*control) {
  Measured mean{.value = 0, .interval = {0, 0}};
  for (const DecompositionFigures* seed : group.seeds) {
    const Measured gain = GainOf(seed->*control);
    const auto count = static_cast<double>(group.seeds.size());
    mean.value += gain.value / count;
    mean.interval.low += gain.interval.low / count;
    mean.interval.high += gain.interval.high / count;
  }
  return mean;
}

void GainCount::Add(const Measured& gain, int side) {
  if (!std::isfinite(gain.value)) return;
  lowest = all == 0 ? gain.value : std::min(lowest, gain.value);
  highest = all == 0 ? gain.value : std::max(highest, gain.value);
  ++all;
  above += side > 0 ? 1 : 0;
  below += side < 0 ? 1 : 0;
}

std::string GainSentence(const std::string& whose, const std::string& than, const GainCount& count) {
  if (count.all == 0) return absl::StrCat(whose, ": no gain was measured.");
  const std::string range = absl::StrFormat("gains are %.3g to %.3g", count.lowest, count.highest);
  if (count.above + count.below == 0) {
    return absl::StrFormat("%s: none of %d intervals is beyond %s; %s.", whose, count.all, than, range);
  }
  std::vector<std::string> sides;
  if (count.above > 0) sides.push_back(absl::StrCat(count.above, " above"));
  if (count.below > 0) sides.push_back(absl::StrCat(count.below, " below"));
  return absl::StrFormat("%s: %d of %d intervals are beyond %s (%s); %s.", whose, count.above + count.below, count.all,
                         than, absl::StrJoin(sides, ", "), range);
}

std::vector<std::string> GainSentences(absl::Span<const DecompositionGroup> groups) {
  std::vector<std::string> names;
  std::map<std::string, GainCount> gains;  // by name
  GainCount heads, hidden;
  for (const DecompositionGroup& group : groups) {
    if (gains.count(group.name) == 0) names.push_back(group.name);
    for (const DecompositionFigures* seed : group.seeds) {
      gains[group.name].Add(seed->alignment_gain, SideOf(seed->alignment_gain, seed->random_head));
      heads.Add(GainOf(seed->random_head), SideOf(GainOf(seed->random_head), std::nullopt));
      hidden.Add(GainOf(seed->random_hidden), SideOf(GainOf(seed->random_hidden), seed->random_head));
    }
  }
  std::vector<std::string> sentences;
  const std::string one = "a gain of 1", than = heads.all > 0 ? "heads in random position" : one;
  for (const std::string& name : names) sentences.push_back(GainSentence(name, than, gains[name]));
  if (hidden.all > 0) sentences.push_back(GainSentence("random hidden states", than, hidden));
  if (heads.all > 0) sentences.push_back(GainSentence("heads in random position, all draws of each", one, heads));
  return sentences;
}

std::string DecompositionsText(const proto::SweepConfig& config, absl::Span<const DecompositionResult> results) {
  std::string text;
  for (const std::string& sentence : GainSentences(GroupsOf(config, results))) absl::StrAppend(&text, sentence, "\n");
  for (const DecompositionResult& result : results) {
    if (!result.problem.empty()) absl::StrAppend(&text, "  ", result.planned.name, ": ", result.problem, "\n");
  }
  return text;
}

}  // namespace isthmus::sweep
