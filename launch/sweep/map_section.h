// The part of a sweep's page that shows a figure over two axes: a map for each arm, and the best arm of each place.
#ifndef ISTHMUS_LAUNCH_SWEEP_MAP_SECTION_H_
#define ISTHMUS_LAUNCH_SWEEP_MAP_SECTION_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns HTML; empty if the sweep has no map. `caption` is text below every map: where the runs ran.
std::string MapSection(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                       const std::string& caption);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_MAP_SECTION_H_
