// Follows the tokens of a training step as they pass. Their sums are on the device, their own figures on the host. The
// host looks at one micro-batch's while the device has the next. F = A P comes from the gradient that has left the
// head.
#ifndef ISTHMUS_MODEL_MEASURE_STEP_TOKENS_H_
#define ISTHMUS_MODEL_MEASURE_STEP_TOKENS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <array>
#include <cstdint>
#include <optional>

#include "model/heads/lm_head.h"
#include "model/measure/head_projector.h"
#include "model/measure/measurement_memory.h"
#include "model/measure/token_figures.h"
#include "parallel/mesh.h"
#include "runtime/host_buffer.h"
#include "runtime/staged_copy.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class StepTokens {
 public:
  // All arguments must outlive this object.
  StepTokens(const MeasurementShape& shape, const MeasurementMemory& memory, const Mesh& mesh, HeadProjector& projector,
             Stream& stream)
      : shape_(shape), memory_(memory), mesh_(mesh), projector_(projector), stream_(stream) {}

  // Begins a step. `targets` is int32 [1 + K, local_tokens], this data rank's in host memory; it must stay until Finish,
  // as must `future_weights`, w_1 to w_K.
  absl::Status Begin(int64_t local_tokens, const Tensor& targets, absl::Span<const double> future_weights);
  // Calls come in this order for each micro-batch. Add takes hidden [N, D], the same on all tensor ranks, and targets
  // int32 [1 + K, N] on the stream's device. It adds to memory.sums.all and memory.sample.hidden. Collective over the
  // tensor ranks.
  absl::Status BeginMicroBatch(int64_t index);
  absl::Status Add(const HeadView& head, const Tensor& hidden, const Tensor& targets);
  absl::Status EndMicroBatch();
  // Waits for the figures of the last micro-batch.
  absl::Status Finish();

  // Returns the sums of this rank's tokens, complete after Finish.
  TokenSums& sums() { return sums_; }
  SampledTokens& sampled() { return sampled_; }
  // Returns the factor of a token's loss in the mean: 1/N.
  double scale() const { return scale_; }

 private:
  // The figures of a micro-batch's tokens travel to the host in this order.
  enum Staged { kLoss, kLogSumExp, kEnergy, kRetained, kTargetDot };

  // Finds where the sampled tokens lie in each micro-batch.
  absl::Status PlaceSample(int64_t micro_batches);
  // Returns rows of the vocabulary-sized factor: those of the targets of tokens [begin, begin + count) of this rank's
  // own.
  absl::StatusOr<Tensor> TargetRows(const HeadView& head, const Tensor& targets, int64_t begin, int64_t count);
  // Finds F and F · (row of Y P) of this rank's tokens from their A.
  absl::Status Project(const HeadView& head, const Tensor& signal, const Tensor& targets);

  const MeasurementShape& shape_;
  const MeasurementMemory& memory_;
  const Mesh& mesh_;
  HeadProjector& projector_;
  Stream& stream_;
  double scale_ = 0;
  int64_t first_token_ = 0;  // of this data rank in the step
  Tensor targets_;           // of the step, in host memory
  HostBuffer positions_;     // of the sampled tokens, by micro-batch
  Tensor placed_;            // the part of it that is filled: int32 [micro-batches, sampled]
  int64_t micro_batch_ = 0;  // index
  std::array<StagedCopy, 2> staged_;
  std::optional<int64_t> waiting_;  // index of the micro-batch whose figures the host has not looked at yet
  TokenSums sums_;
  SampledTokens sampled_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_STEP_TOKENS_H_
