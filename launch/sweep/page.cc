#include "launch/sweep/page.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>

#include "launch/report/html.h"
#include "launch/report/page.h"
#include "launch/report/sections.h"
#include "launch/sweep/cell_section.h"
#include "launch/sweep/decomposition_section.h"
#include "launch/sweep/map_section.h"
#include "launch/sweep/provenance.h"
#include "launch/sweep/regression_section.h"
#include "runtime/version.h"

namespace isthmus::sweep {
namespace {

using report::Escape;

constexpr char kNote[] =
    "<p class=\"note\">Losses are validation losses at the end of a run, over the whole vocabulary. ±: Student’s "
    "interval of the mean over seeds. Differences are taken seed by seed; below 0 the arm is better than the baseline. "
    "Of resamples: the percentile interval, too narrow for few seeds. By chance: probability of such a mean difference "
    "by Student’s test. Factors: how many times fewer tokens, less time or fewer operations an arm takes to the loss "
    "at which the worst arm ends, by the curves’ means; factors grow without bound where curves are flat. An arm is "
    "tuned "
    "in a setting if a lower and a higher value are worse.</p>\n";

// Sentences of all arms, by combination.
std::string FindingsSection(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  std::string html;
  for (const auto& cell : CellsOf(results)) {
    const auto baseline = std::find_if(cell.begin(), cell.end(),
                                       [&](const ArmResult& arm) { return arm.survey.arm == config.baseline(); });
    if (baseline == cell.end()) continue;
    std::string sentences;
    for (const ArmResult& arm : cell) {
      if (&arm == &*baseline) continue;
      absl::StrAppend(&sentences, "<li>", Escape(FindingOf(arm, *baseline, config.confidence())), "</li>\n");
    }
    if (sentences.empty()) continue;
    if (const std::string title = CellText(config, cell[0].survey); !title.empty()) {
      absl::StrAppend(&html, "<h3>", Escape(title), "</h3>\n");
    }
    absl::StrAppend(&html, "<ul class=\"findings\">\n", sentences, "</ul>\n");
  }
  return report::SectionHtml("Findings",
                             html.empty() ? "<p>There is one arm, and nothing to compare it with.</p>\n" : html);
}

}  // namespace

std::string FindingOf(const ArmResult& arm, const ArmResult& baseline, double confidence) {
  const std::string pair = absl::StrCat(arm.survey.arm, " against ", baseline.survey.arm, ": ");
  if (!arm.difference.has_value())
    return absl::StrCat(pair, "no difference can be given: too few seeds finished in both.");
  const Estimate& difference = *arm.difference;
  std::string text = absl::StrFormat(
      "%s%+.4f nats, %g %% interval %s over %d seeds: ", pair, difference.mean, 100 * confidence,
      absl::StrFormat("%+.4f to %+.4f", difference.student.low, difference.student.high), difference.count);
  if (!difference.student.Excludes(0)) {
    absl::StrAppend(&text, "no difference is shown");
  } else {
    absl::StrAppend(&text, arm.survey.arm, difference.mean < 0 ? " is better" : " is worse");
  }
  for (const ArmResult* one : {&arm, &baseline}) {
    if (!one->not_tuned.empty()) {
      absl::StrAppend(&text, ", but ", one->survey.arm, " is not tuned in ", absl::StrJoin(one->not_tuned, ", "));
    }
  }
  if (!arm.missing.empty()) absl::StrAppend(&text, ", without the runs ", absl::StrJoin(arm.missing, ", "));
  return absl::StrCat(text, ".");
}

std::string SweepPageHtml(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                          absl::Span<const DecompositionResult> decompositions) {
  const std::string caption = ProvenanceText(config, ProvenanceOf(results));
  const std::string decomposed = DecompositionSection(config, decompositions, caption);
  std::string sections;
  if (results.empty()) {
    sections = decomposed;
  } else {
    absl::StrAppend(&sections, FindingsSection(config, results), decomposed, MapSection(config, results, caption),
                    RegressionSection(config, results, caption));
    for (const auto& cell : CellsOf(results)) absl::StrAppend(&sections, CellSection(config, cell, caption));
    absl::StrAppend(&sections, report::SectionHtml("How to read this", kNote));
  }
  return report::FramedPage(
      {.title = config.question().empty() ? config.folder() : config.question(),
       .kind = "Isthmus sweep",
       .footer = absl::StrCat(
           "Made by <code>isthmus sweep</code>, version ", kVersion, ", from the runs in <code>",
           Escape(config.folder()), "</code>",
           config.base().empty() ? "" : absl::StrCat(", base <code>", Escape(config.base()), "</code>"), ".")},
      sections);
}

}  // namespace isthmus::sweep
