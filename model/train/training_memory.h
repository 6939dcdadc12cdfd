// Finds the memory of one rank that trains, by segment, from the configuration alone. TrainingModel allocates from the
// same layouts. So a run holds what `isthmus plan` prints, to the byte; a test compares them.
#ifndef ISTHMUS_MODEL_TRAIN_TRAINING_MEMORY_H_
#define ISTHMUS_MODEL_TRAIN_TRAINING_MEMORY_H_

#include <cstdint>

#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace isthmus {

// These are bytes, by purpose.
struct MemoryBytes {
  int64_t weights = 0;
  int64_t gradients = 0;
  int64_t optimizer = 0;  // moments and master weights
  int64_t activations = 0;
  int64_t head = 0;           // logits of a chunk, statistics, what a head keeps of each token
  int64_t decomposition = 0;  // Gram matrices of the lost gradient, if a run measures its head
  int64_t tokens = 0;         // ids and targets of a micro-batch on a GPU
  int64_t scratch = 0;        // of the stream on a GPU

  int64_t total() const {
    return weights + gradients + optimizer + activations + head + decomposition + tokens + scratch;
  }
  friend bool operator==(const MemoryBytes&, const MemoryBytes&) = default;
};

// This is the same with every tensor by name.
struct TrainingMemory {
  ArenaLayout weights, gradients, optimizer, activations, head, decomposition, ids, targets, scratch;

  MemoryBytes bytes() const;
};

// Returns the memory of any data rank with this tensor rank: data ranks hold the same. `config` must be resolved, and
// its model.vocabulary known. On the CPU it assumes MaxThreads() threads.
TrainingMemory PlanTrainingMemory(const proto::RunConfig& config, int tensor_rank, Device device);

// Returns the memory of the tensor rank that holds most: vocabularies need not be divisible.
TrainingMemory PlanLargestTrainingMemory(const proto::RunConfig& config, Device device);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_TRAINING_MEMORY_H_
