// Computes the softmax cross-entropy over classes that the tensor ranks share, a chunk of tokens at a time (DESIGN
// 3.5). The classes are the rows of the vocabulary, or others that a head trains with. A chunk takes these steps: every
// rank's logits and statistics, one packed all-gather, and the gradient of the logits.
//
// A soft cap and a z-loss (ops/loss_form.h) belong to the loss, and so to every head. A head gives logits that are
// linear in its input, and G is the gradient by these: the decomposition of G (DESIGN 4) holds as it is. So do the
// losses of later targets (model.head.future), which a chunk has as further rows of its targets.
#ifndef ISTHMUS_MODEL_HEADS_SOFTMAX_LOSS_H_
#define ISTHMUS_MODEL_HEADS_SOFTMAX_LOSS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/heads/future_loss.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "ops/cross_entropy.h"
#include "ops/loss_form.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"
#include "runtime/work_recorder.h"

namespace isthmus {

// These are sums over the tokens that went through the head since ResetSums.
struct LossSums {
  double loss = 0;             // nats, of the cross-entropy alone
  std::vector<double> energy;  // by shard: of the tokens' gradients by its logits; times scale² its part of ‖G‖²
  double z_loss = 0;           // Σ_n λ log_sum_exp_n²
  std::vector<double> future;  // nats, of the cross-entropy of each later target, without its weight
};

// A measured step fills these tensors for its tokens and vocabulary rows, in memory of the stream's device.
struct HeadObservation {
  Tensor loss;         // [1, N] accumulation type
  Tensor log_sum_exp;  // [1, N] accumulation type
  Tensor energy;       // fp64 [shards, N]: of one token, as LossSums::energy
  Tensor row_energy;   // fp64 [1, V_i]: Σ_n G[n, v]² of this shard is added
  // [N, width] accumulation type: this shard's part of A, before it is rounded to the compute type and summed over the
  // shards (HeadView). An undefined one is left out. It must be undefined if the two types are the same.
  Tensor signal;
};

// These classes are on this rank, for the tokens of a chunk. Ranks have contiguous parts of all classes, in their
// order.
struct SoftmaxChunk {
  Tensor logits;  // [n, classes] accumulation type, of SoftmaxLoss::Logits
  // int32 [1, n]: the class of each token, among those of all ranks. Later targets are K further rows.
  Tensor targets;
  int64_t first_class = 0;  // on this rank
};

// These are the results of a chunk's tokens, until the next chunk.
struct SoftmaxTokens {
  Tensor loss;         // [1, n] accumulation type, nats
  Tensor energy;       // fp64 [shards, n]: of one token, as LossSums::energy
  Tensor log_sum_exp;  // [1, n] accumulation type
};

// The weights of each token's gradient (ops/loss_form.h), where a head mixes the softmax with something else. Both are
// [1, n] accumulation type, or undefined.
struct SoftmaxWeights {
  ConstTensor target, excess;
};

class SoftmaxLoss {
 public:
  // `chunk` is the number of tokens whose logits exist at once. There are at most `offsets` later targets of each.
  // `setting` must outlive the loss.
  SoftmaxLoss(const PartSetting& setting, int64_t chunk, const LossForm& form, int64_t offsets = 0)
      : setting_(setting), chunk_(chunk), form_(form), future_(offsets) {}
  SoftmaxLoss(const SoftmaxLoss&) = delete;
  SoftmaxLoss& operator=(const SoftmaxLoss&) = delete;

  // `classes` are on this rank at most.
  void Place(int64_t classes, TensorPlacer& placer);
  // Both must outlive the loss.
  void Bind(const TensorRegion& region, Stream& stream);

  // Returns the rows of the vocabulary on this rank.
  Range rows() const { return setting_.Share(setting_.vocabulary); }
  int64_t chunk() const { return chunk_; }
  const LossForm& form() const { return form_; }
  // Calls visit(begin, count) for each chunk of `tokens` tokens, until one fails.
  template <typename Visit>
  absl::Status ForChunks(int64_t tokens, const Visit& visit) const {
    return ForEachAlike(*stream_, (tokens + chunk_ - 1) / chunk_, [&](int64_t i) {
      const int64_t begin = i * chunk_;
      return visit(begin, std::min(chunk_, tokens - begin));
    });
  }

  // Takes the weights of a step's later targets, w_1 to w_K, or none for a step without them.
  absl::Status BeginStep(absl::Span<const double> weights) { return future_.BeginStep(weights, *stream_); }
  // From now on the loss of these later targets alone is added, without the z-loss; 0: that of the ordinary ones. A head
  // that takes one row of targets at a time trains in this way.
  void TakeOffset(int64_t offset) { offset_ = offset; }

  // Forgets what was summed.
  absl::Status ResetSums();
  // Returns the sums since then; waits for the stream.
  absl::StatusOr<LossSums> Sums();

  // Returns memory for the logits of `tokens` tokens from the token `first` of a chunk on.
  Tensor Logits(int64_t tokens, int64_t classes, int64_t first = 0) const {
    return workspace_.logits.RowSlice(first, tokens).ColumnSlice(0, classes);
  }
  // Adds the loss of a chunk to the sums. Collective over the tensor group.
  absl::Status Add(const SoftmaxChunk& chunk) { return Add(absl::MakeConstSpan(&chunk, 1)); }
  // Does the same for a chunk whose tokens have different classes. Its parts follow one another without a gap.
  absl::Status Add(absl::Span<const SoftmaxChunk> parts);
  // Computes the same, as Gradient needs it, and adds nothing to the sums. Collective over the tensor group.
  absl::StatusOr<SoftmaxTokens> Compare(absl::Span<const SoftmaxChunk> parts);
  // Adds a loss that the head makes of compared ones: of SoftmaxTokens' shapes. An undefined energy is left out. It is
  // that of the ordinary targets, or of those that TakeOffset names.
  absl::Status AddToSums(const SoftmaxTokens& tokens);
  // Says where Score puts its results from now on: int32 [1, N] in host memory. Undefined: Score does nothing.
  void ScoreInto(const Tensor& scores) { scores_ = scores; }
  // Finds of each token of the chunk that begins at `begin` whether its target is the most probable class, 1 or 0
  // (ops/top_target.h). The classes of the chunk are the rows of the vocabulary; its gradient comes before. Collective
  // over the tensor group; waits for the stream.
  absl::Status Score(int64_t begin, const SoftmaxChunk& chunk);
  // Copies what Add has left of the chunk of tokens that begins at `begin`.
  absl::Status Observe(int64_t begin, int64_t tokens, const HeadObservation& observed);
  // Returns the gradient of scale · Σ_n loss_n, with the z-loss, by the logits of the chunk that was added last, or of
  // its part from the token `first` on: [n, classes] compute type. It may lie in the memory of the logits. Its squares
  // are added to observed->row_energy, unless it is null. A chunk with later targets has neither `first` nor `weights`.
  absl::StatusOr<Tensor> Gradient(const SoftmaxChunk& chunk, double scale, const HeadObservation* observed,
                                  int64_t first = 0, const SoftmaxWeights& weights = {});

 private:
  struct Workspace {
    Tensor logits;       // [C, classes] accumulation type
    Tensor grad_logits;  // [C, classes] compute type; the memory of `logits` where the types agree
    Tensor statistics, gathered, loss, log_sum_exp, energy;
    Tensor top;  // int32 [1, C]
    // fp64 [1, 1 + shards]: LossSums; with a z-loss one more, Σ log_sum_exp². Those of later targets follow.
    Tensor sums;
  };

  // Returns the form of what is added now.
  LossForm CurrentForm() const { return {.soft_cap = form_.soft_cap, .z_loss = offset_ == 0 ? form_.z_loss : 0}; }
  FutureLoss::Chunk FutureOf(const SoftmaxChunk& chunk) const {
    return {.targets = chunk.targets, .first_class = chunk.first_class, .form = form_};
  }
  // Returns where the losses of an offset are summed.
  Tensor SumOf(int64_t offset) const {
    return workspace_.sums.ColumnSlice(workspace_.sums.columns - future_.offsets() + offset - 1, 1);
  }
  // Views memory of statistics as [rows, 2].
  static Tensor RivalsIn(const Tensor& memory, int64_t rows) { return {memory.data, memory.dtype, rows, 2}; }
  // Views memory of statistics as [rows, 4 + K], for K later targets of this chunk.
  static Tensor StatisticsIn(const Tensor& memory, int64_t rows, int64_t offsets) {
    return {memory.data, memory.dtype, rows, kCrossEntropyStatistics + offsets};
  }

  const PartSetting& setting_;
  const int64_t chunk_;
  const LossForm form_;
  FutureLoss future_;
  int64_t offset_ = 0;  // of TakeOffset
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Workspace workspace_;
  HostBuffer host_sums_;
  Tensor scores_;  // of ScoreInto
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_SOFTMAX_LOSS_H_
