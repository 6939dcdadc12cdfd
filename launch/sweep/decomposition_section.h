// The part of a sweep's page with the decompositions: what the heads pass on, beside heads in random position.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_SECTION_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_SECTION_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/decomposition_results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns HTML; empty without decompositions. `caption` is text below every plot: where the runs ran.
std::string DecompositionSection(const proto::SweepConfig& config, absl::Span<const DecompositionResult> results,
                                 const std::string& caption);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_SECTION_H_
