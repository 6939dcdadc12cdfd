// The part of a sweep's page with the regressions that it stated beforehand.
#ifndef ISTHMUS_LAUNCH_SWEEP_REGRESSION_SECTION_H_
#define ISTHMUS_LAUNCH_SWEEP_REGRESSION_SECTION_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns HTML; empty if the sweep has no regression. `caption` is text below every plot: where the runs ran.
std::string RegressionSection(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                              const std::string& caption);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_REGRESSION_SECTION_H_
