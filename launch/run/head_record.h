// Makes telemetry records from the figures that a measured step has of its head and layers.
#ifndef ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_
#define ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_

#include <absl/types/span.h>

#include "model/heads/lm_head.h"
#include "model/measure/head_figures.h"
#include "model/measure/layer_figures.h"
#include "model/measure/visible_shares.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

// Fills an empty record with the figures' scalars, some of the singular values, histograms and parts. Omits the
// best-rank figures unless more tokens than the head's width were sampled: fewer rows always have that rank.
void FillHeadRecord(const HeadFigures& head, proto::HeadRecord& record);

// Fills in the losses on the head itself, if there are any.
void FillHeadLosses(const HeadLossValues& losses, proto::TelemetryRecord& record);

// Fills in the shares of single tokens' gradients. One whose gradient is zero has none.
void FillVisibleShares(const VisibleShares& shares, proto::VisibleShareRecord& record);

// Adds the layers' figures, those of the final norm's entrance at last. A cosine that has no value is left out.
void FillLayerRecords(absl::Span<const LayerFigures> layers, proto::TelemetryRecord& record);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_HEAD_RECORD_H_
