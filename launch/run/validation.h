// Measures the model on the validation set.
#ifndef ISTHMUS_LAUNCH_RUN_VALIDATION_H_
#define ISTHMUS_LAUNCH_RUN_VALIDATION_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>

#include "launch/run/run_parts.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

// A set smaller than a batch is seen more than once. Every sample of a larger one is seen at most once.
int64_t ValidationBatches(const RunParts& run);

// Returns the mean loss over ValidationBatches() batches, nats per token, and the accuracy. That is left out where it
// would cost far more than the loss (ChunkedLoss::scores_at_once), unless the run is one on data.spamlang. Returns
// nothing if a signal interrupted it; the `last` validation of a run is never interrupted. Collective. Errors: those of
// EndOfData (launch/run/recovery.h) if the data can't be read; of collectives.
absl::StatusOr<std::optional<proto::ValidationRecord>> Validate(RunParts& run, bool last);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_VALIDATION_H_
