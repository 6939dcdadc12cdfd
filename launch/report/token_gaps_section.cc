#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "launch/report/columns.h"
#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kGapsNote =
    "<p class=\"note\">Steps that lie between two occurrences of a token among the targets, by token, since the "
    "program "
    "last started. κ is that number times 1 − β₂ of the head’s rows: above 1, Adam’s second moment has forgotten most "
    "of a "
    "row’s last gradient when its token comes again.</p>\n";

constexpr const char* kHistogram = "token_gaps/steps";

double LatestGap(const Run& run, const char* name) { return run.Figure(absl::StrCat("token_gaps/", name)).Last(); }

bool HasGaps(const Run& run) {
  const auto found = run.histograms.find(kHistogram);
  return found != run.histograms.end() && IsHistogram(found->second);
}

std::string GapTable(absl::Span<const Run> runs) {
  Table table{.caption = "Steps between occurrences of a token",
              .header = {"Run", "tokens that occur again", "steps, median token", "steps, nine tenths within",
                         "κ, median token", "κ, nine tenths within"}};
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!HasGaps(runs[i])) continue;
    std::vector<std::string> row = {RunLabel(runs[i], i), WholeText(LatestGap(runs[i], "tokens"))};
    for (const char* name : {"median_steps", "ninth_decile_steps", "median_kappa", "ninth_decile_kappa"}) {
      row.push_back(ValueText(LatestGap(runs[i], name), Unit::kNumber));
    }
    table.rows.push_back(std::move(row));
  }
  return TableHtml(table);
}

const Counts& GapCounts(const Run& run) { return run.histograms.at(kHistogram); }

// κ is proportional to the steps.
double StepsOfKappaOne(const Run& run) { return LatestGap(run, "median_steps") / LatestGap(run, "median_kappa"); }

// Runs on the same data in the same order have the same gaps.
bool HaveSameGaps(const Run& a, const Run& b) {
  const double steps_a = StepsOfKappaOne(a), steps_b = StepsOfKappaOne(b);
  const bool same_kappa = steps_a == steps_b || (std::isnan(steps_a) && std::isnan(steps_b));
  return same_kappa && GapCounts(a).bounds == GapCounts(b).bounds && GapCounts(a).counts == GapCounts(b).counts;
}

// Returns how many columns show all tokens, and where κ is 1.
size_t ColumnsWanted(const Run& run) {
  const Counts& counts = GapCounts(run);
  const auto last = std::find_if(counts.counts.rbegin(), counts.counts.rend(), [](double count) { return count > 0; });
  const auto tokens = static_cast<size_t>(counts.counts.rend() - last);
  const auto mark = std::lower_bound(counts.bounds.begin(), counts.bounds.end(), StepsOfKappaOne(run));
  const auto marked = static_cast<size_t>(mark - counts.bounds.begin()) + 1;
  return std::min(std::max(tokens, marked) + 1, counts.counts.size());
}

// Leaves out columns at the end, where no token is.
Counts FirstColumns(Counts counts, size_t columns) {
  if (columns < 2 || columns >= counts.counts.size()) return counts;
  counts.counts.resize(columns);
  counts.bounds.resize(columns - 1);
  return counts;
}

// Names up to three runs.
std::string NamesOf(absl::Span<const Run> runs, const std::vector<size_t>& members) {
  constexpr size_t kMostNamed = 3;
  if (members.size() == runs.size() && runs.size() > 1) return "all runs";
  std::string names;
  for (size_t i = 0; i < std::min(members.size(), kMostNamed); ++i) {
    absl::StrAppend(&names, i > 0 ? ", " : "", runs[members[i]].name);
  }
  if (members.size() > kMostNamed) absl::StrAppend(&names, " and ", members.size() - kMostNamed, " more");
  return names;
}

std::string GapColumns(absl::Span<const Run> runs) {
  double highest = 0;
  size_t wanted = 0;
  std::vector<std::vector<size_t>> alike;  // runs by place
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!HasGaps(runs[i])) continue;
    highest = std::max(highest, HighestShare(GapCounts(runs[i])));
    wanted = std::max(wanted, ColumnsWanted(runs[i]));
    const auto known = std::find_if(alike.begin(), alike.end(),
                                    [&](const auto& members) { return HaveSameGaps(runs[members[0]], runs[i]); });
    if (known == alike.end()) {
      alike.push_back({i});
    } else {
      known->push_back(i);
    }
  }
  std::string plots;
  for (const std::vector<size_t>& members : alike) {
    const Run& run = runs[members[0]];
    absl::StrAppend(&plots, ColumnsHtml({.title = absl::StrCat("Tokens by steps, ", NamesOf(runs, members)),
                                         .x_title = "steps between occurrences",
                                         .note = "",
                                         .style = static_cast<int>(members[0]),
                                         .counts = FirstColumns(GapCounts(run), wanted),
                                         .highest_share = highest,
                                         .mark = StepsOfKappaOne(run),
                                         .mark_name = "κ = 1"}));
  }
  return absl::StrCat("<div class=\"plots small\">\n", plots, "</div>\n");
}

}  // namespace

std::string TokenGapsSection(absl::Span<const Run> runs) {
  if (std::none_of(runs.begin(), runs.end(), HasGaps)) return "";
  return SectionHtml("Gaps between a token’s occurrences", absl::StrCat(GapTable(runs), kGapsNote, GapColumns(runs)));
}

}  // namespace isthmus::report
