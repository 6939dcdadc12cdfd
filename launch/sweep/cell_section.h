// The part of a sweep's page with the arms of one combination of the axes' values.
#ifndef ISTHMUS_LAUNCH_SWEEP_CELL_SECTION_H_
#define ISTHMUS_LAUNCH_SWEEP_CELL_SECTION_H_

#include <absl/types/span.h>

#include <string>

#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Returns problems, tables, curves and tunings as HTML. `caption` is text below every plot: where the runs ran.
std::string CellSection(const proto::SweepConfig& config, absl::Span<const ArmResult> arms, const std::string& caption);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_CELL_SECTION_H_
