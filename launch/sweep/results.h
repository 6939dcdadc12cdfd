// The findings of a sweep, for people and for programs.
#ifndef ISTHMUS_LAUNCH_SWEEP_RESULTS_H_
#define ISTHMUS_LAUNCH_SWEEP_RESULTS_H_

#include <absl/types/span.h>

#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/arm_runs.h"
#include "launch/sweep/statistics.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// One of the sweep's figures in an arm's runs that finished.
struct FigureResult {
  std::optional<Estimate> mean;        // over the seeds that have it; needs two
  std::optional<double> lone;          // of an arm with one
  std::optional<Estimate> difference;  // to the baseline, paired by seed

  // Returns the mean, or the lone value; NaN if there is neither.
  double value() const;
};

// An arm with its losses, and its difference to the baseline of the same combination.
struct ArmResult {
  ArmSurvey survey;
  ArmRuns runs;
  std::optional<Estimate> loss;        // over its finished seeds; needs two
  std::optional<double> lone_loss;     // of an arm with one
  std::optional<Estimate> difference;  // to the baseline, paired by seed; not of the baseline itself
  std::vector<std::string> missing;    // runs that the difference lacks
  // Settings whose best value is an end of its values, or the only one: the arm is not tuned in them.
  std::vector<std::string> not_tuned;
  std::vector<FigureResult> figures;  // in the order of the sweep's
  // By these factors it learns faster than the arm of the same combination that ends with the highest mean loss. That one
  // itself has none.
  std::optional<ArmFactors> factors;
};

// Returns the results of all arms, in the order of the survey. Reads their runs.
std::vector<ArmResult> ResultsOf(const proto::SweepConfig& config, std::vector<ArmSurvey> arms);

// Returns the combination of the axes' values: "V 1024, D 16", empty without axes.
std::string CellText(const proto::SweepConfig& config, const ArmSurvey& arm);
// Returns what the page calls a figure.
std::string FigureTitle(const proto::SweepFigure& figure);
// Returns "3.5642 ± 0.0123" with Student's interval, the one loss of an arm with one seed, or "–".
std::string LossText(const ArmResult& arm);

// Returns a line for each arm, and what is missing.
std::string ResultsText(const proto::SweepConfig& config, absl::Span<const ArmResult> results);
// Returns the arms of each combination of the axes' values.
std::vector<absl::Span<const ArmResult>> CellsOf(absl::Span<const ArmResult> results);
// Returns the arm of one combination that ends with the highest mean loss; null if none has a curve.
const ArmResult* WorstOf(absl::Span<const ArmResult> cell);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RESULTS_H_
