// The page of a sweep: what it asks, what it found, and what the findings stand on.
#ifndef ISTHMUS_LAUNCH_SWEEP_PAGE_H_
#define ISTHMUS_LAUNCH_SWEEP_PAGE_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/decomposition_results.h"
#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns one self-contained HTML file, a function of the results alone.
std::string SweepPageHtml(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                          absl::Span<const DecompositionResult> decompositions = {});

// Returns the sentence that says what an arm's difference shows, as text. It is no finding unless the interval excludes
// zero, both arms are tuned, and no seed is missing.
std::string FindingOf(const ArmResult& arm, const ArmResult& baseline, double confidence);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_PAGE_H_
