// Reads the runs of an arm at its settings: curves against tokens, time and operations, figures, and where they ran.
#ifndef ISTHMUS_LAUNCH_SWEEP_ARM_RUNS_H_
#define ISTHMUS_LAUNCH_SWEEP_ARM_RUNS_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "launch/report/series.h"
#include "launch/report/speed_up.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// One figure in all runs.
struct FigureRuns {
  std::vector<double> last;  // one for each seed of the survey: the mean over the last tenth of records; NaN: none
  std::vector<std::vector<report::SeriesPoint>> curves;  // of the runs that have it
};

struct ArmRuns {
  std::vector<std::vector<report::SeriesPoint>> losses;  // validation losses of the runs that finished
  // Means over the seeds at the tokens where all of them have a loss. `low` and `high` are the seeds' extremes.
  std::vector<report::SeriesPoint> mean;
  double flops_per_token = 0;       // NaN if it is not recorded
  std::vector<FigureRuns> figures;  // in the order of the sweep's
  std::set<std::string> commits;    // of the program's sources
  std::set<std::string> machines;   // "CPU (AMD EPYC 9654 96-Core Processor), 1 thread"
  std::set<std::string> data;       // digests of the training data
};

// Reads those of the arm's runs that finished, below `folder`. A run that can't be read is left out.
ArmRuns ReadArmRuns(const proto::SweepConfig& config, const ArmSurvey& arm);

// Returns the mean of some curves, at the tokens where all of them have a point.
std::vector<report::SeriesPoint> MeanCurve(const std::vector<std::vector<report::SeriesPoint>>& curves);

// By this factor an arm takes fewer tokens, less time or fewer operations than `worst` to the loss at which that ends
// (launch/report/speed_up.h), by the means of both.
struct ArmFactors {
  report::SpeedUp tokens, seconds, flops;
};
ArmFactors FactorsOver(const ArmRuns& worst, const ArmRuns& arm);

// Returns how the factor of tokens depends on the loss at which it is taken: (loss, factor) for each loss of the worst
// arm's curve that the arm also comes down to. A factor that is only known to be at least so large is left out.
std::vector<std::pair<double, double>> FactorsByLoss(const ArmRuns& worst, const ArmRuns& arm);

// Returns a curve with operations in place of tokens; empty if operations are not recorded.
std::vector<report::SeriesPoint> AgainstFlops(const std::vector<report::SeriesPoint>& curve, double flops_per_token);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_ARM_RUNS_H_
