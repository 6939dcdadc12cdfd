#include "model/train/training_memory.h"

#include <utility>

#include "model/measure/head_decomposition.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/token_buffer.h"
#include "model/train/optimizer.h"
#include "runtime/device.h"

namespace isthmus {

MemoryBytes TrainingMemory::bytes() const {
  return {.weights = weights.bytes(),
          .gradients = gradients.bytes(),
          .optimizer = optimizer.bytes(),
          .activations = activations.bytes(),
          .head = head.bytes(),
          .decomposition = decomposition.bytes(),
          .tokens = ids.bytes() + targets.bytes(),
          .scratch = scratch.bytes()};
}

TrainingMemory PlanTrainingMemory(const proto::RunConfig& config, int tensor_rank, Device device) {
  Model model(config, {tensor_rank, config.mesh().tensor(), config.mesh().data()}, device, Purpose::Training(config));
  const DType type = model.setting().type;
  const ParameterTable table = model.Declare();
  TrainingMemory memory;
  memory.weights = ParameterStore::Layout("weights", table, type);
  memory.gradients = ParameterStore::Layout("gradients", table, AccumulationType(type));
  memory.optimizer = Optimizer::StateLayout(table, config);
  memory.activations = model.ActivationLayout();
  memory.head = model.HeadLayout();
  if (MeasuresHead(config)) {
    memory.decomposition = HeadDecomposition::Layout(MeasurementShape::Of(config, tensor_rank, device));
  }
  const int64_t tokens = model.setting().batch.tokens();
  memory.ids = TokenBuffer::Layout(tokens, device);
  memory.targets = TokenBuffer::Layout((1 + model.loss().offsets()) * tokens, device);
  memory.scratch.Add("scratch of the stream", DType::kUInt8, 1, StreamScratchBytes(device));
  return memory;
}

TrainingMemory PlanLargestTrainingMemory(const proto::RunConfig& config, Device device) {
  TrainingMemory largest = PlanTrainingMemory(config, 0, device);
  // Shards have at most two sizes, those of the first and the last rank (parallel/shard.h).
  TrainingMemory last = PlanTrainingMemory(config, config.mesh().tensor() - 1, device);
  return last.bytes().total() > largest.bytes().total() ? last : largest;
}

}  // namespace isthmus
