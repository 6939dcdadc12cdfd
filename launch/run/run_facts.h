// Collects the facts of a run as a whole, for its first record.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_FACTS_H_
#define ISTHMUS_LAUNCH_RUN_RUN_FACTS_H_

#include <string>

#include "launch/run/run_parts.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

// `device` is its name. `peak_flops` is that of all ranks; 0 if it is not known.
proto::RunRecord FactsOf(const RunParts& run, const std::string& device, double peak_flops);

// Writes the same for people, in two lines.
std::string FactsText(const proto::RunRecord& facts);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_FACTS_H_
