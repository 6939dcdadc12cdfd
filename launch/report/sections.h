// These are the parts of the page, each the HTML of one <section>. A part is empty if no run has what it shows.
#ifndef ISTHMUS_LAUNCH_REPORT_SECTIONS_H_
#define ISTHMUS_LAUNCH_REPORT_SECTIONS_H_

#include <absl/types/span.h>

#include <string>

#include "launch/report/plot.h"
#include "launch/report/run.h"

namespace isthmus::report {

// A run keeps its style, that of its place, in every plot with a line for each run.

std::string RunsSection(absl::Span<const Run> runs);           // facts and latest figures, what is odd about the files
std::string LossSection(absl::Span<const Run> runs);           // against tokens and time
std::string SpeedUpSection(absl::Span<const Run> runs);        // at equal loss
std::string HeadsSection(absl::Span<const Run> runs);          // a table with a row for each run's head
std::string HeadSection(absl::Span<const Run> runs);           // lost gradient, by part, spectra, histograms
std::string UpdateSection(absl::Span<const Run> runs);         // cosines, conditioning, decrease by part
std::string TokenGapsSection(absl::Span<const Run> runs);      // histograms, κ
std::string ThroughputSection(absl::Span<const Run> runs);     // tokens per second, time by phase
std::string ConfigurationSection(absl::Span<const Run> runs);  // fields that differ
std::string FiguresSection(absl::Span<const Run> runs);        // every other figure of the records

// Returns the series as points of a plot, as many as one can show.
inline constexpr size_t kMostDrawn = 512;
PlotPoints DrawnPoints(const std::vector<SeriesPoint>& points, bool against_time = false);

// Returns <h2> and the content after it.
std::string SectionHtml(absl::string_view title, absl::string_view content);
// Puts plots beside each other if there is room.
std::string PlotGrid(absl::string_view plots);
// Returns a run's key and name.
std::string RunLabel(const Run& run, size_t index);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_SECTIONS_H_
