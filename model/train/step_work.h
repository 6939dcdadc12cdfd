// What one rank computes, moves through memory and sends in one optimizer step, as a list derived from the
// configuration: every product with its size, every pass over memory, every collective. It follows the layers'
// Forward and Backward call by call; `isthmus plan` turns it into time.
#ifndef ISTHMUS_MODEL_TRAIN_STEP_WORK_H_
#define ISTHMUS_MODEL_TRAIN_STEP_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/config.pb.h"
#include "runtime/stream.h"

namespace isthmus {

// As StepSeconds (model/train/training_model.h) counts them. kTelemetry happens on steps that measure the head only.
enum class StepPhase { kForward, kHead, kBackward, kReduce, kOptimizer, kTelemetry };

// A kind of operator call of a step.
struct OperatorWork {
  enum class Kind { kProduct, kFp8Product, kAttentionForward, kAttentionBackward, kMemory };

  StepPhase phase = StepPhase::kForward;
  std::string name;
  Kind kind = Kind::kMemory;
  int64_t calls = 0;  // per step; a last, shorter chunk of the loss counts as a whole one
  double flops = 0;   // per call; 0 of kMemory
  double bytes = 0;   // per call: operands and results once each
  int kernels = 1;    // started per call on a GPU
};

// A kind of collective of a step.
struct CollectiveWork {
  enum class Kind { kAllReduce, kReduceScatter, kAllGather };
  enum class Group { kTensor, kData };

  StepPhase phase = StepPhase::kForward;
  std::string name;
  Kind kind = Kind::kAllReduce;
  Group group = Group::kTensor;
  int64_t calls = 0;
  int64_t bytes = 0;  // per call, of the whole buffer: what an all-reduce sums, an all-gather ends up with
  // Index of the operator whose call it runs beside; -1: nothing hides it, unless it is a gradient bucket.
  int beside = -1;
  // Of a gradient bucket: the share of the last micro-batch's backward pass that is still to come when it starts. Below
  // 0: not a bucket.
  double backward_left = -1;
};

struct StepWork {
  int64_t micro_batches = 0;
  std::vector<OperatorWork> operators;
  std::vector<CollectiveWork> collectives;  // only of groups with more than one rank
};

// `config` is resolved, and its model.vocabulary known. The head's fp64 algebra on measured steps is not included: some
// products of its width cubed, and two of the head and 256 tokens.
StepWork WorkOfStep(const proto::RunConfig& config, int tensor_rank, Device device);

const char* PhaseName(StepPhase phase);
const char* KindName(CollectiveWork::Kind kind);
const char* GroupName(CollectiveWork::Group group);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_STEP_WORK_H_
