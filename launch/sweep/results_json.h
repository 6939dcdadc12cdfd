// The findings of a sweep for programs.
#ifndef ISTHMUS_LAUNCH_SWEEP_RESULTS_JSON_H_
#define ISTHMUS_LAUNCH_SWEEP_RESULTS_JSON_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/decomposition_results.h"
#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns everything that is known: arms with settings, losses, differences, figures and factors, regressions,
// decompositions if the sweep asks for some, and where the runs ran.
std::string ResultsJson(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                        absl::Span<const DecompositionResult> decompositions = {});

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RESULTS_JSON_H_
