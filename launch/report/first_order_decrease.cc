#include "launch/report/first_order_decrease.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <limits>
#include <map>

namespace isthmus::report {
namespace {

constexpr absl::string_view kPartPrefix = "updates/", kGroupPrefix = "groups/",
                            kDecreaseSuffix = "/first_order_decrease";

// Returns the names between `prefix` and the figure's own, where a run has such figures.
std::vector<std::string> NamesWithDecrease(const Run& run, absl::string_view prefix) {
  std::vector<std::string> names;
  for (const auto& [key, series] : run.figures) {
    absl::string_view name = key;
    if (series.empty() || !absl::ConsumePrefix(&name, prefix) || !absl::ConsumeSuffix(&name, kDecreaseSuffix)) continue;
    names.emplace_back(name);
  }
  return names;
}

int PartOrder(absl::string_view part) {
  return part == "head" ? 0 : part == "blocks" ? 1 : part == "embedding" ? 2 : 3;
}

}  // namespace

std::vector<std::string> UpdatedParts(const Run& run) {
  std::vector<std::string> parts = NamesWithDecrease(run, kPartPrefix);
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return PartOrder(a) < PartOrder(b); });
  return parts;
}

std::vector<std::string> UpdatedGroups(const Run& run) { return NamesWithDecrease(run, kGroupPrefix); }

std::string PartDecreaseKey(absl::string_view part) { return absl::StrCat(kPartPrefix, part, kDecreaseSuffix); }
std::string GroupDecreaseKey(absl::string_view group) { return absl::StrCat(kGroupPrefix, group, kDecreaseSuffix); }

std::vector<SeriesPoint> DecreaseShares(const Run& run, const std::string& key) {
  struct Sum {
    double decrease = 0;
    size_t parts = 0;
  };
  std::map<double, Sum> sums;  // by tokens
  const std::vector<std::string> parts = UpdatedParts(run);
  for (const std::string& part : parts) {
    for (const SeriesPoint& point : Smooth(run.Figure(PartDecreaseKey(part)).points())) {
      sums[point.tokens].decrease += point.value;
      ++sums[point.tokens].parts;
    }
  }
  std::vector<SeriesPoint> shares;
  for (SeriesPoint point : Smooth(run.Figure(key).points())) {
    const auto sum = sums.find(point.tokens);
    if (sum == sums.end() || sum->second.parts < parts.size() || !(sum->second.decrease > 0)) continue;
    point.value /= sum->second.decrease;
    if (IsPlottable(point.value)) shares.push_back(point);
  }
  return shares;
}

double LastDecreaseShare(const Run& run, const std::string& key) {
  double sum = 0;
  for (const std::string& part : UpdatedParts(run)) sum += MeanOfLastPart(run.Figure(PartDecreaseKey(part)), 10);
  return sum > 0 ? MeanOfLastPart(run.Figure(key), 10) / sum : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace isthmus::report
