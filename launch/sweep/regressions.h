// The regressions that a sweep states beforehand: do figures predict how fast arms learn?
#ifndef ISTHMUS_LAUNCH_SWEEP_REGRESSIONS_H_
#define ISTHMUS_LAUNCH_SWEEP_REGRESSIONS_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <string>
#include <utility>
#include <vector>

#include "launch/sweep/line_fit.h"
#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// A line through (figure, ln tokens to the loss of the worst arm), one point for each arm.
struct FigureFit {
  std::string key;
  std::vector<std::pair<double, double>> points;  // in the order of RegressionResult::arms
  absl::StatusOr<LineFit> line;
};

// One regression in one combination of the axes' values.
struct RegressionResult {
  std::string name, cell;         // CellText
  std::vector<std::string> arms;  // that are points
  // Arms that are none, each with the reason: "copy: it does not come down to the loss of the worst arm".
  std::vector<std::string> left_out;
  std::vector<FigureFit> fits;
};

std::vector<RegressionResult> RegressionsOf(const proto::SweepConfig& config, absl::Span<const ArmResult> results);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_REGRESSIONS_H_
