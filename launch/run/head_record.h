// Telemetry records from what a measured step says of its head and layers.
#ifndef ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_
#define ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_

#include <absl/types/span.h>

#include "model/decomposition/head_figures.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

void FillHeadRecord(const HeadFigures& head, proto::HeadRecord& record);

// `norms`: HeadDecomposition::Result::layer_gradient_norms.
void FillLayerRecords(absl::Span<const double> norms, proto::TelemetryRecord& record);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_
