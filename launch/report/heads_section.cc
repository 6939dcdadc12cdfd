#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "launch/report/head_summary.h"
#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kHeadsNote =
    "<p class=\"note\">Figures of the head and shares of the decrease are means over the last tenth of the records "
    "that "
    "have them, at least one. Training losses are smoothed as in the plots above, and taken at the centre of their "
    "window. Isotropic: what a head of the same rank in random position loses; the alignment gain is how many times "
    "more of the norm this one passes on. Token cosine: how much of single tokens’ gradients a change of their hidden "
    "state can follow, by the logits of the head’s own loss and by the log-probabilities of the vocabulary, which "
    "compare all kinds of heads. Conditioning: how much of the visible cosine the hidden update keeps. Decrease: whose "
    "update lowers the loss, to first order. A head that is the embedding’s own matrix has no parameters besides, and "
    "its update counts as the embedding’s. Time per token: by the median rate of the records. “–”: not recorded.</p>\n";

// A column is shown if a run has its figure.
struct HeadColumn {
  std::string name;
  double HeadSummary::*figure;
  Unit unit;
};

std::vector<HeadColumn> ColumnsOf(absl::Span<const HeadSummary> summaries, double common_tokens) {
  std::vector<HeadColumn> columns = {{"para\u00ADmeters", &HeadSummary::parameters, Unit::kCount},
                                     {"training loss, end", &HeadSummary::loss, Unit::kNumber}};
  // Runs that end together have one loss.
  const bool differs = std::any_of(summaries.begin(), summaries.end(), [](const HeadSummary& summary) {
    return std::isfinite(summary.loss) && summary.common_loss != summary.loss;
  });
  if (differs) {
    columns.push_back({absl::StrCat("training loss, ", ValueText(common_tokens, Unit::kCount), " tokens"),
                       &HeadSummary::common_loss, Unit::kNumber});
  }
  const std::vector<HeadColumn> others = {
      {"validation loss", &HeadSummary::validation_loss, Unit::kNumber},
      {"norm lost", &HeadSummary::lost_norm_ratio, Unit::kPercent},
      {"isotropic", &HeadSummary::isotropic_lost_norm_ratio, Unit::kPercent},
      {"alignment gain", &HeadSummary::alignment_gain, Unit::kNumber},
      {"visible cosine", &HeadSummary::visible_cosine, Unit::kNumber},
      {"token cosine, own logits", &HeadSummary::logit_cosine, Unit::kNumber},
      {"token cosine, vocab\u00ADulary", &HeadSummary::log_probability_cosine, Unit::kNumber},
      {"hidden-update cosine", &HeadSummary::hidden_update_cosine, Unit::kNumber},
      {"condition\u00ADing", &HeadSummary::conditioning_cosine, Unit::kNumber},
      {"decrease by head", &HeadSummary::head_share, Unit::kPercent},
      {"by blocks", &HeadSummary::blocks_share, Unit::kPercent},
      {"by em\u00ADbedding", &HeadSummary::embedding_share, Unit::kPercent},
  };
  columns.insert(columns.end(), others.begin(), others.end());
  std::erase_if(columns, [&](const HeadColumn& column) {
    return std::none_of(summaries.begin(), summaries.end(),
                        [&](const HeadSummary& summary) { return std::isfinite(summary.*column.figure); });
  });
  return columns;
}

// Returns a text against the first run's time if there are several runs: "1.52×".
std::string TimeText(absl::Span<const HeadSummary> summaries, size_t run) {
  const double seconds = summaries[run].seconds_per_token, factor = seconds / summaries[0].seconds_per_token;
  if (summaries.size() == 1) return ValueText(seconds, Unit::kSeconds);
  return std::isfinite(factor) ? absl::StrFormat("%.2f×", factor) : "–";
}

bool HaveHeadFigures(absl::Span<const HeadSummary> summaries) {
  return std::any_of(summaries.begin(), summaries.end(), [](const HeadSummary& summary) {
    return std::isfinite(summary.visible_cosine) || std::isfinite(summary.lost_norm_ratio) ||
           std::isfinite(summary.head_share) || std::isfinite(summary.log_probability_cosine);
  });
}

}  // namespace

std::string HeadsSection(absl::Span<const Run> runs) {
  const double common_tokens = CommonTokens(runs);
  std::vector<HeadSummary> summaries;
  std::set<double> vocabularies;
  for (const Run& run : runs) {
    summaries.push_back(SummariseHead(run, common_tokens));
    if (const double vocabulary = run.Fact("vocabulary"); vocabulary > 0) vocabularies.insert(vocabulary);
  }
  if (!HaveHeadFigures(summaries)) return "";
  const std::vector<HeadColumn> columns = ColumnsOf(summaries, common_tokens);
  Table table{.caption = runs.size() == 1 ? "The head in figures" : "A row for each run, times against the first",
              .header = {"Run", "<span class=\"words\">head</span>"}};
  for (const HeadColumn& column : columns) table.header.push_back(column.name);
  table.header.push_back("time per token");
  for (size_t i = 0; i < runs.size(); ++i) {
    std::vector<std::string> row = {
        RunLabel(runs[i], i), absl::StrCat("<span class=\"words\">",
                                           summaries[i].title.empty() ? "–" : Escape(summaries[i].title), "</span>")};
    for (const HeadColumn& column : columns) row.push_back(ValueText(summaries[i].*column.figure, column.unit));
    row.push_back(TimeText(summaries, i));
    table.rows.push_back(std::move(row));
  }
  return SectionHtml("Heads side by side",
                     absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n",
                                  vocabularies.size() < 2 ? ""
                                                          : "<p class=\"warning\">These runs have different "
                                                            "vocabularies: their losses can’t be compared.</p>\n",
                                  kHeadsNote));
}

}  // namespace isthmus::report
