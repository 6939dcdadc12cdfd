// Computes what later targets add to the softmax cross-entropy of a chunk of tokens (ops/future_targets.h). It is the
// part of SoftmaxLoss for them.
#ifndef ISTHMUS_MODEL_HEADS_FUTURE_LOSS_H_
#define ISTHMUS_MODEL_HEADS_FUTURE_LOSS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>

#include "ops/loss_form.h"
#include "runtime/arena.h"
#include "runtime/dtype.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class FutureLoss {
 public:
  // `offsets` is the most that a step has, K.
  explicit FutureLoss(int64_t offsets) : offsets_(offsets) {}

  int64_t offsets() const { return offsets_; }
  // Places memory for chunks of `chunk` tokens whose sums are of type `type`.
  void Place(int64_t chunk, DType type, TensorPlacer& placer);
  // Takes the weights of a step, w_1 to w_K or none. They go to the device in the order of the stream, always to the
  // same address. The stream must have finished the step before.
  absl::Status BeginStep(absl::Span<const double> weights, Stream& stream);

  // This is a chunk of n tokens on this rank. Its targets are int32 [1 + K, n].
  struct Chunk {
    Tensor targets;
    int64_t first_class = 0;
    LossForm form;
  };
  // Finds the losses of the later targets, and what Gradient needs, from statistics [P·n, 4 + K] that all ranks have
  // gathered. `loss` is [1, n]. `energy`, fp64 [P, n], becomes that of the whole gradient.
  absl::Status Compare(const Chunk& chunk, const ConstTensor& gathered, int64_t shards, const ConstTensor& loss,
                       const Tensor& energy, Stream& stream);
  // Return the weights of the softmax's gradient, and the losses of an offset k >= 1, [1, n].
  Tensor target_weight(int64_t tokens) const { return memory_.target_weight.ColumnSlice(0, tokens); }
  Tensor excess_weight(int64_t tokens) const { return memory_.excess_weight.ColumnSlice(0, tokens); }
  Tensor losses(int64_t offset, int64_t tokens) const {
    return memory_.losses.RowSlice(offset - 1, 1).ColumnSlice(0, tokens);
  }
  // Completes the gradient of scale · Σ_n loss_n by the logits. `target_logits` are this rank's, [n, K].
  absl::Status CompleteGradient(const Chunk& chunk, const ConstTensor& target_logits, const ConstTensor& log_sum_exp,
                                double scale, const Tensor& gradient, Stream& stream) const;

 private:
  struct Memory {
    Tensor weights;                       // fp64 [1, K]
    Tensor losses;                        // [K, C]
    Tensor target_weight, excess_weight;  // [1, C]
  };

  const int64_t offsets_;
  HostBuffer staging_;
  Memory memory_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_FUTURE_LOSS_H_
