#include "launch/sweep/decomposition_section.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/plot.h"
#include "launch/report/sections.h"
#include "launch/report/series.h"

namespace isthmus::sweep {
namespace {

using report::Escape;

constexpr char kDecompositionNote[] =
    "<p class=\"note\">c: cosine of the logit gradient and the part of it that the head passes on, for all tokens of a "
    "checkpoint together. Isotropic: √(rank/V), what a head in random position keeps. Gain: c against that. r and r²: "
    "the shares of the norm and of its square that are lost. Random head: the same gradient, and heads in random "
    "position; the root of the mean of the squares, whose expectation is 1, with Student’s interval over draws. Random "
    "hidden: the head as it is, and random hidden states with the mean and covariance of the real ones. All "
    "checkpoints of one rank and "
    "vocabulary meet the same random heads. About one interval in twenty excludes the true value by chance. Of one "
    "checkpoint, an interval is that of resamples of "
    "whole sequences at 95 %: it says how far the text decides, and nothing of other seeds. Even an untrained head has "
    "a place of its own, and with it a gain that is not quite 1. So a gain is called beyond heads in random position "
    "if its interval is outside of where one more of them lies, by Student’s interval for a new draw. Of several seeds "
    "an interval is Student’s of the mean. Gains beyond heads in random position, and means whose interval excludes 1, "
    "are bold.</p>\n"
    "<p class=\"note\">The vector g by which the final norm scales its output may be counted to the hidden states or "
    "to the head: H·diag(g) and W, or H and W·diag(g). Unless g has a zero, the columns of W and of W·diag(g) span the "
    "same space. So the logits, their gradient, c, and all figures here are the same.</p>\n";

std::string MeasuredText(const Measured& measured) {
  if (!std::isfinite(measured.value)) return "–";
  if (!std::isfinite(measured.interval.low)) return absl::StrFormat("%.4g", measured.value);
  return absl::StrFormat("%.4g (%.4g to %.4g)", measured.value, measured.interval.low, measured.interval.high);
}

std::string GainCell(const Measured& gain, bool bold) {
  return bold ? absl::StrCat("<b>", MeasuredText(gain), "</b>") : MeasuredText(gain);
}

// Returns a gain over seeds. It is in bold if its interval excludes 1, or for one seed if it is beyond random heads.
std::string GroupGainCell(const DecompositionGroup& group, const Measured& gain) {
  const bool one = group.seeds.size() == 1;
  return GainCell(gain, one ? SideOf(gain, group.seeds[0]->random_head) != 0 : gain.Excludes(1));
}

std::string LabelOf(const DecompositionGroup& group) {
  return group.cell.empty() ? group.name : absl::StrCat(group.cell, ", ", group.name);
}

// Points of one colour.
struct CosineSeries {
  struct Point {
    double x, y, low, high;
  };
  std::string name;
  int style = 0;
  std::vector<Point> points{};

  // Adds a value times `factor`, if it can be drawn.
  void Add(double x, const Measured& measured, double factor) {
    if (!report::IsPlottable(measured.value)) return;
    // An interval down to 0 has no place on a logarithmic axis.
    const double low = measured.interval.low > 0 ? measured.interval.low : std::nan("");
    points.push_back({x, factor * measured.value, factor * low, factor * measured.interval.high});
  }
};

// All that the section shows of one sweep.
class DecompositionPage {
 public:
  DecompositionPage(const proto::SweepConfig& config, absl::Span<const DecompositionResult> results,
                    std::string caption)
      : results_(results),
        groups_(GroupsOf(config, results)),
        confidence_(config.confidence()),
        caption_(std::move(caption)) {}

  std::string Problems() const {
    std::string html;
    for (const DecompositionResult& result : results_) {
      if (result.problem.empty()) continue;
      absl::StrAppend(&html, "<p class=\"warning\">", Escape(result.planned.name), ": ", Escape(result.problem),
                      "</p>\n");
    }
    return html;
  }

  std::string Sentences() const {
    std::string html;
    for (const std::string& sentence : GainSentences(groups_)) {
      absl::StrAppend(&html, "<li>", Escape(sentence), "</li>\n");
    }
    return absl::StrCat("<ul class=\"findings\">\n", html, "</ul>\n");
  }

  std::string Plots() const {
    std::set<int64_t> lengths;
    for (const DecompositionGroup& group : groups_) lengths.insert(group.sequence_length);
    std::string plots;
    for (const int64_t length : lengths) absl::StrAppend(&plots, PlotOf(length));
    return report::PlotGrid(plots);
  }

  // A row for each group.
  std::string GroupTable() const {
    report::Table table{.caption = "What the heads pass on: means over seeds",
                        .header = {"Head", "context", "seeds", "V", "D", "rank", "c", "isotropic c", "gain",
                                   "random head", "random hidden", "r", "r²"}};
    for (const DecompositionGroup& group : groups_) {
      const DecompositionFigures& first = *group.seeds[0];
      const auto over = [&](Measured DecompositionFigures::*figure) {
        return Over(group, [&](const DecompositionFigures& seed) { return seed.*figure; });
      };
      table.rows.push_back({Escape(LabelOf(group)), absl::StrCat(group.sequence_length),
                            absl::StrCat(group.seeds.size()), absl::StrCat(first.vocabulary), absl::StrCat(first.width),
                            absl::StrCat(first.rank), MeasuredText(over(&DecompositionFigures::visible_cosine)),
                            absl::StrFormat("%.4g", first.isotropic_visible_cosine),
                            GroupGainCell(group, over(&DecompositionFigures::alignment_gain)),
                            MeasuredText(ControlOverSeeds(group, &DecompositionFigures::random_head)),
                            MeasuredText(ControlOverSeeds(group, &DecompositionFigures::random_hidden)),
                            MeasuredText(over(&DecompositionFigures::lost_norm_ratio)),
                            MeasuredText(over(&DecompositionFigures::lost_energy_ratio))});
    }
    return absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n");
  }

  // The gain by how frequent the target is.
  std::string BucketTable() const {
    report::Table table{.caption = "Gain by how frequent the target is", .header = {"Head", "context"}};
    if (groups_.empty()) return "";
    for (const DecompositionFigures::Bucket& bucket : groups_[0].seeds[0]->buckets) {
      table.header.push_back(bucket.most_frequent_percent < 100
                                 ? absl::StrFormat("up to the most frequent %g %%", bucket.most_frequent_percent)
                                 : "the rest");
    }
    for (const DecompositionGroup& group : groups_) {
      std::vector<std::string> row = {Escape(LabelOf(group)), absl::StrCat(group.sequence_length)};
      for (size_t i = 0; i + 2 < table.header.size(); ++i) {
        row.push_back(GroupGainCell(group, Over(group, [&](const DecompositionFigures& seed) {
                                      return i < seed.buckets.size() ? seed.buckets[i].alignment_gain : Measured();
                                    })));
      }
      table.rows.push_back(std::move(row));
    }
    return absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n");
  }

  // A row for each checkpoint and context.
  std::string EachTable() const {
    report::Table table{.caption = "Each checkpoint, with the intervals of resamples of whole sequences",
                        .header = {"Checkpoint", "tokens", "loss, nats", "V", "D", "rank", "c", "isotropic c", "gain",
                                   "random head", "random hidden", "r", "r²"}};
    for (const DecompositionResult& result : results_) {
      if (!result.figures.has_value()) continue;
      const DecompositionFigures& figures = *result.figures;
      table.rows.push_back(
          {Escape(result.planned.name), absl::StrCat(figures.sequences, " × ", figures.sequence_length),
           absl::StrFormat("%.4f", figures.loss), absl::StrCat(figures.vocabulary), absl::StrCat(figures.width),
           absl::StrCat(figures.rank), MeasuredText(figures.visible_cosine),
           absl::StrFormat("%.4g", figures.isotropic_visible_cosine),
           GainCell(figures.alignment_gain, SideOf(figures.alignment_gain, figures.random_head) != 0),
           MeasuredText(GainOf(figures.random_head)), MeasuredText(GainOf(figures.random_hidden)),
           MeasuredText(figures.lost_norm_ratio), MeasuredText(figures.lost_energy_ratio)});
    }
    return report::Details("Each checkpoint", TableHtml(table));
  }

 private:
  Measured Over(const DecompositionGroup& group,
                const std::function<Measured(const DecompositionFigures&)>& figure) const {
    return OverSeeds(group, figure, confidence_);
  }

  // Returns the points of each arm in one context, and then those of heads in random position.
  std::vector<CosineSeries> SeriesOf(int64_t length) const {
    std::vector<CosineSeries> series;
    std::vector<std::string> names;
    CosineSeries random{.name = "heads in random position", .style = report::kGrey};
    for (const DecompositionGroup& group : groups_) {
      // An arm has the same style in all plots.
      auto name = std::find(names.begin(), names.end(), group.name);
      if (name == names.end()) name = names.insert(names.end(), group.name);
      const int style = static_cast<int>(name - names.begin()) % report::kStyles;
      if (group.sequence_length != length) continue;
      auto own =
          std::find_if(series.begin(), series.end(), [&](const CosineSeries& one) { return one.name == group.name; });
      if (own == series.end()) own = series.insert(series.end(), {.name = group.name, .style = style});
      for (const DecompositionFigures* seed : group.seeds) {
        const double isotropic = seed->isotropic_visible_cosine;
        own->Add(isotropic, seed->visible_cosine, 1);
        random.Add(isotropic, GainOf(seed->random_head), isotropic);
      }
    }
    series.push_back(std::move(random));
    return series;
  }

  // Shows cosines against √(rank/V) in one context, with the line of a head in random position.
  std::string PlotOf(int64_t length) const {
    report::Plot plot{
        .title = absl::StrCat("Visible cosine, context ", length),
        .x_title = "√(rank/V)",
        .y_title = "c",
        .note = absl::StrCat("A point for each checkpoint, with its interval at 95 %. ", Escape(caption_)),
        .x_unit = report::Unit::kNumber,
        .x_from_zero = false,
        .last_values = false,
        .x_logarithmic_above = 1.2,
        .y_logarithmic_above = 1.2,
        .lines = {}};
    report::PlotLine line{.name = "c = √(rank/V)", .style = report::kGrey, .kind = report::PlotLine::Kind::kReference};
    for (CosineSeries& one : SeriesOf(length)) {
      std::sort(one.points.begin(), one.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
      report::PlotLine marks{.name = one.name, .style = one.style, .kind = report::PlotLine::Kind::kPoints};
      for (const CosineSeries::Point& point : one.points) {
        marks.points.emplace_back(point.x, point.y);
        marks.intervals.emplace_back(point.low, point.high);
        line.points.emplace_back(point.x, point.x);
      }
      plot.lines.push_back(std::move(marks));
    }
    std::sort(line.points.begin(), line.points.end());
    if (!line.points.empty()) {
      // It goes on a little, so that no point is on the edge.
      const double first = 0.9 * line.points.front().first, last = line.points.back().first / 0.9;
      line.points.insert(line.points.begin(), {first, first});
      line.points.emplace_back(last, last);
    }
    plot.lines.push_back(std::move(line));
    return PlotHtml(plot);
  }

  const absl::Span<const DecompositionResult> results_;
  const std::vector<DecompositionGroup> groups_;
  const double confidence_;
  const std::string caption_;
};

}  // namespace

std::string DecompositionSection(const proto::SweepConfig& config, absl::Span<const DecompositionResult> results,
                                 const std::string& caption) {
  if (results.empty()) return "";
  const proto::SweepDecomposition& decomposition = config.decomposition();
  const DecompositionPage page(
      config, results,
      absl::StrCat("About ", decomposition.tokens(), " tokens of validation data each, ", decomposition.resamples(),
                   " resamples, ", decomposition.control_draws(), " draws of each control. ", caption));
  return report::SectionHtml("What the heads pass on",
                             absl::StrCat(page.Problems(), page.Sentences(), page.Plots(), page.GroupTable(),
                                          page.BucketTable(), page.EachTable(), kDecompositionNote));
}

}  // namespace isthmus::sweep
