#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <utility>

#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "launch/report/speed_up.h"

namespace isthmus::report {
namespace {

// With more runs only the first is the reference.
constexpr size_t kMostReferences = 5;

constexpr const char* kExplanation =
    "<p class=\"note\">How many times fewer tokens, or less time, a run needs to the loss at which the reference ends; "
    "below 1: more. Training losses are smoothed as in the plots above: the reference ends with the mean of its last "
    "5 % of records, at least 10, and both runs are taken at the centre of such windows. Validation losses are joined "
    "by straight lines. A range: the run came down to that loss more than once, from the last time to the first. “ends "
    "above”: it reached the loss and ended above it. “≥”: it was there at its first record. “–”: fewer than two "
    "records "
    "of that kind.</p>\n";

struct Curves {
  std::vector<SeriesPoint> training, validation;
};

std::string EndText(const std::vector<SeriesPoint>& curve) {
  return curve.empty() ? "–" : ValueText(curve.back().value, Unit::kNumber);
}

// Losses per token of different vocabularies can't be compared.
std::string WhyNot(const Run& a, const Run& b) {
  const double va = a.Fact("vocabulary"), vb = b.Fact("vocabulary");
  if (va > 0 && vb > 0 && va != vb)
    return absl::StrCat("not comparable: vocabularies of ", WholeText(va), " and ", WholeText(vb));
  return "";
}

bool TokensDiffer(const Run& a, const Run& b) {
  const double ea = a.Fact("unigram_entropy"), eb = b.Fact("unigram_entropy");
  return ea > 0 && eb > 0 && ea != eb;
}

std::string HeadlineOf(absl::Span<const Run> runs, size_t reference, size_t run, const Curves& a, const Curves& b) {
  const bool validation = a.validation.size() > 1 && b.validation.size() > 1;
  const auto& from = validation ? a.validation : a.training;
  const auto& to = validation ? b.validation : b.training;
  const SpeedUp tokens = ComputeSpeedUp(from, to, Against::kTokens), time = ComputeSpeedUp(from, to, Against::kSeconds);
  if (tokens.kind != SpeedUp::Kind::kFactor || tokens.cautious_factor <= 1) return "";
  std::string text =
      absl::StrCat("<p class=\"headline\"><b>", RunLabel(runs[run], run), "</b> reaches the ",
                   validation ? "validation" : "training", " loss at which <b>", RunLabel(runs[reference], reference),
                   "</b> ends (", EndText(from), ") with <b>", SpeedUpText(tokens), "</b> fewer tokens");
  if (time.kind == SpeedUp::Kind::kFactor && time.cautious_factor > 1) {
    absl::StrAppend(&text, " and in <b>", SpeedUpText(time), "</b> less time");
  } else if (time.kind == SpeedUp::Kind::kFactor) {
    absl::StrAppend(&text, "; in time the factor is ", SpeedUpText(time));
  }
  return absl::StrCat(text, ".</p>\n");
}

std::vector<std::string> PairRow(absl::Span<const Run> runs, size_t reference, size_t run,
                                 const std::vector<Curves>& curves) {
  std::vector<std::string> row = {RunLabel(runs[run], run)};
  const std::string why_not = WhyNot(runs[reference], runs[run]);
  for (const auto& part : {&Curves::training, &Curves::validation}) {
    for (const Against against : {Against::kTokens, Against::kSeconds}) {
      row.push_back(why_not.empty() ? SpeedUpText(ComputeSpeedUp(curves[reference].*part, curves[run].*part, against))
                                    : why_not);
    }
  }
  return row;
}

}  // namespace

std::string SpeedUpSection(absl::Span<const Run> runs) {
  if (runs.size() < 2) return "";
  std::vector<Curves> curves;
  for (const Run& run : runs) {
    curves.push_back({Smooth(run.Figure("train/loss").points()), run.Figure("validation/loss").points()});
  }
  std::string headline, tables;
  double best = 0;
  bool tokens_differ = false;
  const size_t references = runs.size() > kMostReferences ? 1 : runs.size();
  for (size_t reference = 0; reference < references; ++reference) {
    Table table{.caption = absl::StrCat("To the loss at which ", runs[reference].name, " ends: training ",
                                        EndText(curves[reference].training), ", validation ",
                                        EndText(curves[reference].validation)),
                .header = {"Run", "fewer tokens, training loss", "less time, training loss",
                           "fewer tokens, validation loss", "less time, validation loss"}};
    for (size_t run = 0; run < runs.size(); ++run) {
      if (run == reference) continue;
      table.rows.push_back(PairRow(runs, reference, run, curves));
      tokens_differ |= TokensDiffer(runs[reference], runs[run]);
      const SpeedUp tokens = ComputeSpeedUp(curves[reference].training, curves[run].training, Against::kTokens);
      if (!WhyNot(runs[reference], runs[run]).empty() || tokens.cautious_factor <= best) continue;
      // Training losses choose, validation losses may say something else.
      std::string text = HeadlineOf(runs, reference, run, curves[reference], curves[run]);
      if (text.empty()) continue;
      best = tokens.cautious_factor;
      headline = std::move(text);
    }
    absl::StrAppend(&tables, TableHtml(table));
  }
  if (tokens_differ) {
    absl::StrAppend(&tables,
                    "<p class=\"warning\">These runs were trained on different tokens (their unigram entropies "
                    "differ): compare their losses only where they were validated on the same ones.</p>\n");
  }
  if (references < runs.size()) {
    absl::StrAppend(&tables, "<p class=\"note\">With more than ", kMostReferences,
                    " runs the first one given is the reference.</p>\n");
  }
  return SectionHtml("Speed-up at equal loss", absl::StrCat(headline, tables, kExplanation));
}

}  // namespace isthmus::report
