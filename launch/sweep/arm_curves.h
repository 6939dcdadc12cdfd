// The validation losses of an arm's runs against tokens, time and operations.
#ifndef ISTHMUS_LAUNCH_SWEEP_ARM_CURVES_H_
#define ISTHMUS_LAUNCH_SWEEP_ARM_CURVES_H_

#include <string>
#include <vector>

#include "launch/report/series.h"
#include "launch/report/speed_up.h"
#include "launch/sweep/results.h"

namespace isthmus::sweep {

struct ArmCurves {
  std::vector<std::vector<report::SeriesPoint>> seeds;  // of the runs that finished
  // Means over the seeds at the tokens where all of them have a loss. `low` and `high` are the seeds' extremes.
  std::vector<report::SeriesPoint> mean;
  double flops_per_token = 0;  // NaN if it is not recorded
};

// Reads the runs at the arm's settings, below `folder`. A run that can't be read is left out.
ArmCurves CurvesOf(const ArmResult& arm, const std::string& folder);

// By this factor an arm takes fewer tokens, less time or fewer operations than `worst` to the loss at which that ends
// (launch/report/speed_up.h), by the means of both.
struct ArmFactors {
  report::SpeedUp tokens, seconds, flops;
};
ArmFactors FactorsOver(const ArmCurves& worst, const ArmCurves& arm);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_ARM_CURVES_H_
