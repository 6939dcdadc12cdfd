#include "launch/run/validation.h"

#include <algorithm>
#include <utility>

#include "launch/run/agreed_stop.h"
#include "launch/run/recovery.h"
#include "runtime/data/batch_loader.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {

int64_t ValidationBatches(const RunParts& run) {
  return std::clamp<int64_t>(run.data.validation.count / run.config.batch().sequences(), 1,
                             run.config.telemetry().validation_batches());
}

absl::StatusOr<std::optional<double>> ValidationLoss(RunParts& run, bool last) {
  const int64_t batches = ValidationBatches(run);
  // The samples are the same each time, chosen by a fixed seed.
  BatchLoader loader(run.data.validation, {.sequences = run.config.batch().sequences(),
                                           .data_rank = run.mesh->data_rank(),
                                           .data_ranks = run.mesh->data_ranks(),
                                           .seed = 0,
                                           .prefetch = 2});
  double sum = 0;
  for (int64_t i = 0; i < batches; ++i) {
    FaultPoint("evaluate.batch");
    auto batch = loader.Next();
    if (const absl::Status status = AgreeOnStatus(run.world, batch.status()); !status.ok()) {
      return EndOfData(run, status);
    }
    ISTHMUS_ASSIGN_OR_RETURN(const double loss, run.model->Evaluate(batch->ids(), batch->targets()));
    sum += loss;
    loader.Recycle(*std::move(batch));
    if (last) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(run.signals, run.world));
    if (stop != 0) return std::nullopt;
  }
  return sum / static_cast<double>(batches);
}

}  // namespace isthmus
