// A telemetry record as JSON, and its figures under the names that all sinks use.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_RECORD_JSON_H_
#define ISTHMUS_RUNTIME_TELEMETRY_RECORD_JSON_H_

#include <string>

#include "proto/telemetry.pb.h"

namespace isthmus {

// Returns one line, without its end: {"step": …, "train/loss": …, "head/shards": [{"tp_rank": 0, …}, …]}. A histogram
// is {"bounds": […], "counts": […], "sum": …}. Fields go by their numbers, and those that are not set are left out.
// Numbers that are not finite are null; doubles keep all their digits.
std::string RecordJson(const proto::TelemetryRecord& record);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_RECORD_JSON_H_
