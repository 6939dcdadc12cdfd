#include "model/train/dry_run.h"

#include <cstdint>
#include <memory>

#include "model/measure/head_decomposition.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "parallel/recording_communicator.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<RecordedWork> RecordStep(const proto::RunConfig& config, const DryStep& step) {
  const int tensor = config.mesh().tensor(), data = config.mesh().data();
  WorkRecorder recorder;
  Stream stream = Stream::Dry(step.device, recorder);
  RecordingCommunicator world("world", step.tensor_rank, tensor * data, recorder);
  const Mesh mesh =
      Mesh::Of(world, std::make_unique<RecordingCommunicator>("tensor", step.tensor_rank, tensor, recorder),
               std::make_unique<RecordingCommunicator>("data", 0, data, recorder));
  std::unique_ptr<HeadDecomposition> observer;
  if (step.measure) {
    ISTHMUS_ASSIGN_OR_RETURN(observer, HeadDecomposition::Create(config, mesh, stream, step.token_counts));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::unique_ptr<TrainingModel> model,
                           TrainingModel::Create(config, mesh, stream, observer.get()));
  recorder.Take();

  const int64_t tokens = config.batch().sequences() / data * config.data().sequence_length();
  const Tensor host(recorder.Addresses(tokens * SizeOf(DType::kInt32)), DType::kInt32, 1, tokens);
  ISTHMUS_RETURN_IF_ERROR(
      model->Step({.ids = host, .targets = host, .step = 1, .learning_rate = 1, .measure = step.measure}).status());
  return recorder.Take();
}

}  // namespace isthmus
