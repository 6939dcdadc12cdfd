// Finds the work of one rank in one optimizer step, from the configuration alone: operators and collectives. The step
// itself runs, on a stream that records instead of computing (runtime/stream.h). Its groups send nothing
// (parallel/recording_communicator.h). Neither memory nor a GPU nor other ranks are needed.
#ifndef ISTHMUS_MODEL_TRAIN_DRY_RUN_H_
#define ISTHMUS_MODEL_TRAIN_DRY_RUN_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>

#include "proto/config.pb.h"
#include "runtime/stream.h"
#include "runtime/work_recorder.h"

namespace isthmus {

struct DryStep {
  int tensor_rank = 0;  // of data rank 0
  Device device = Device::kCpu;
  // True if the step measures its head, in a run that does. The head's fp64 algebra by the host is not recorded.
  bool measure = false;
  absl::Span<const uint64_t> token_counts;  // as HeadDecomposition::Create takes them
};

// Returns the calls of the first step. `config` must be resolved and valid for its mesh, and its model.vocabulary
// known. On the CPU it assumes MaxThreads() threads. Errors: those of making a model and of a step.
absl::StatusOr<RecordedWork> RecordStep(const proto::RunConfig& config, const DryStep& step);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_DRY_RUN_H_
