#include "launch/sweep/provenance.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <vector>

namespace isthmus::sweep {

Provenance ProvenanceOf(absl::Span<const ArmResult> results) {
  Provenance all;
  for (const ArmResult& arm : results) {
    all.commits.insert(arm.runs.commits.begin(), arm.runs.commits.end());
    all.machines.insert(arm.runs.machines.begin(), arm.runs.machines.end());
    all.data.insert(arm.runs.data.begin(), arm.runs.data.end());
  }
  return all;
}

std::string ProvenanceText(const proto::SweepConfig& config, const Provenance& provenance) {
  std::vector<std::string> parts;
  if (!config.base().empty()) parts.push_back(absl::StrCat("base ", config.base()));
  if (!provenance.data.empty()) parts.push_back(absl::StrCat("data ", absl::StrJoin(provenance.data, ", ")));
  if (!provenance.commits.empty()) parts.push_back(absl::StrCat("commit ", absl::StrJoin(provenance.commits, ", ")));
  if (!provenance.machines.empty()) parts.push_back(absl::StrJoin(provenance.machines, ", "));
  return absl::StrJoin(parts, "; ");
}

}  // namespace isthmus::sweep
