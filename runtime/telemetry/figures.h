// The figures of a telemetry record one by one, for sinks that have a name for each.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_FIGURES_H_
#define ISTHMUS_RUNTIME_TELEMETRY_FIGURES_H_

#include <absl/functional/function_ref.h>
#include <google/protobuf/descriptor.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "proto/telemetry.pb.h"

namespace isthmus {

struct Figure {
  // "train/loss", "head/shards/1/lost_energy_ratio", "time/phases/forward/minimum_seconds".
  std::string tag;
  // "train_loss", "head_shard_lost_energy_ratio", "time_phase_minimum_seconds".
  std::string metric;
  // Labels tell apart figures of the same metric: {{"tp_rank", "1"}}. Their names are rank, tp_rank, dp_rank, layer,
  // phase, bucket and group. A field with such a name is a label of the other fields of its message, and of its lists.
  std::vector<std::pair<std::string, std::string>> labels;
  const google::protobuf::FieldDescriptor* field;
  std::variant<double, std::string, const proto::Histogram*> value;
};

// Calls `visit` for every field that is set. It finds them by reflection, so that a new field of proto/telemetry.proto
// needs no code. A list is left out when its elements have no label.
void ForEachFigure(const proto::TelemetryRecord& record, absl::FunctionRef<void(const Figure&)> visit);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_FIGURES_H_
