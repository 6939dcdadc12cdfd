// Says where the runs of a sweep ran, with what: for the caption of each figure that is made of them.
#ifndef ISTHMUS_LAUNCH_SWEEP_PROVENANCE_H_
#define ISTHMUS_LAUNCH_SWEEP_PROVENANCE_H_

#include <absl/types/span.h>

#include <set>
#include <string>

#include "launch/sweep/results.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

struct Provenance {
  std::set<std::string> commits, machines, data;  // ArmRuns
};
Provenance ProvenanceOf(absl::Span<const ArmResult> results);

// Returns "data 4f2c…; commit 1a2b…; CPU (…), 1 thread; base x.textproto" as text; facts that no run recorded are left
// out.
std::string ProvenanceText(const proto::SweepConfig& config, const Provenance& provenance);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_PROVENANCE_H_
