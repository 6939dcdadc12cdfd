// Computes which parts of the model the fall of the loss comes from, to first order: the first-order decrease of a
// part's update is -<gradient, update>, in nats (UpdateRecord of proto/telemetry.proto).
#ifndef ISTHMUS_LAUNCH_REPORT_FIRST_ORDER_DECREASE_H_
#define ISTHMUS_LAUNCH_REPORT_FIRST_ORDER_DECREASE_H_

#include <absl/strings/string_view.h>

#include <string>
#include <vector>

#include "launch/report/run.h"
#include "launch/report/series.h"

namespace isthmus::report {

// Returns the parts of the model that a run's records tell apart: head, blocks and embedding first, then others.
std::vector<std::string> UpdatedParts(const Run& run);
// Returns the groups of optimizer.groups that have a first-order decrease, by name.
std::vector<std::string> UpdatedGroups(const Run& run);

// Return the key of a part's or a group's figure.
std::string PartDecreaseKey(absl::string_view part);
std::string GroupDecreaseKey(absl::string_view group);

// Returns the share that a figure has in the decrease of all parts, against tokens: the figure's moving mean (Smooth)
// over the sum of the parts'. A part that raises the loss has a share below 0, and the others may then have one above
// 1. Places where a part is not recorded, or where all parts together do not lower the loss, have no share.
std::vector<SeriesPoint> DecreaseShares(const Run& run, const std::string& key);
// Returns the same share from means over the last tenth of the records; NaN if there is none.
double LastDecreaseShare(const Run& run, const std::string& key);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_FIRST_ORDER_DECREASE_H_
