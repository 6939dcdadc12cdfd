// The LM head of a model with its memory: the loss of hidden states, and its gradient. No N×V matrix ever exists,
// because heads take a chunk of tokens at a time (model/heads/softmax_loss.h). Forward and backward of a chunk happen
// together: the gradient's scale is known beforehand.
#ifndef ISTHMUS_MODEL_CHUNKED_LOSS_H_
#define ISTHMUS_MODEL_CHUNKED_LOSS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/future_schedule.h"
#include "model/heads/lm_head.h"
#include "model/heads/softmax_loss.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "ops/loss_form.h"
#include "parallel/shard.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/data/token_tables.h"
#include "runtime/stream.h"

namespace isthmus {

class ChunkedLoss {
 public:
  // Makes the head of `config`, without memory. `loss_chunk` is the number of tokens whose logits exist at once.
  // `setting` must outlive the loss. The head keeps what it needs of `tables`.
  ChunkedLoss(const proto::ModelConfig& config, const PartSetting& setting, int64_t loss_chunk,
              const TokenTables& tables);
  ChunkedLoss(const ChunkedLoss&) = delete;
  ChunkedLoss& operator=(const ChunkedLoss&) = delete;

  // Declares the head's parameters.
  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) { head_->Declare(embedding, parameters); }
  // Describes the memory of head and loss. It does not depend on N, but for what a head keeps of each token.
  ArenaLayout Layout();
  int64_t bytes() const { return arena_.bytes(); }
  // Allocates that memory. `parameters`, `region` and `stream` must outlive the loss.
  absl::Status Allocate(const ParameterStore& parameters, const TensorRegion& region, Stream& stream);

  // Forgets what was summed.
  absl::Status ResetSums() { return softmax_.ResetSums(); }
  // Returns the sums since then; waits for the stream.
  absl::StatusOr<LossSums> Sums() { return softmax_.Sums(); }

  // hidden is [N, D] on every tensor rank, targets int32 [1, N]. `ids` are the tokens that went into the model, which
  // some heads read (LmHead::reads_inputs). Adds to the sums. `scores`, int32 [1, N] in host memory, gets 1 where the
  // target is the most probable class, else 0 (ops/top_target.h); they are left out if it is undefined.
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, const Tensor& ids = {}, const Tensor& scores = {});
  // Whether the scores come with the loss. Those of another head take the log-probabilities of the whole vocabulary, a
  // chunk at a time, which cost far more.
  bool scores_at_once() const { return !head_->log_probabilities(); }

  // Returns a step's targets with the later ones that it trains towards, as BeginStep takes them. `targets` are the
  // ordinary ones, int32 [1, n] in host memory. The result lives until the next call, and is `targets` itself in a step
  // without later ones.
  Tensor StepTargets(int64_t step, const Tensor& targets);
  // Returns how many later targets a step has at most.
  int64_t offsets() const { return schedule_.offsets(); }
  // Returns their weights in the step that has begun. They are empty in a step without.
  absl::Span<const double> future_weights() const { return future_.weights; }
  // Returns whether that step finds the loss of the offset k >= 1. A head that takes one row of targets at a time leaves
  // out those whose weight is 0.
  bool trains_offset(int64_t offset) const {
    return !future_.by_offset || future_.weights[static_cast<size_t>(offset - 1)] != 0;
  }

  // Does the same as Evaluate, with gradients (HeadBatch), by the loss that the head trains with.
  absl::Status Train(const HeadBatch& batch);

  // Returns logits of the rows of `hidden` [n, D], n <= loss_chunk, on this shard: fp32 (fp64) [n, V_i] in the loss's
  // memory. Their softmax are the probabilities: a soft cap is on them.
  absl::StatusOr<Tensor> Logits(const Tensor& hidden);
  // Returns those of the row `token`, of any head: it may read the rows and the `ids` before it.
  absl::StatusOr<Tensor> LogitsOf(int64_t token, const Tensor& hidden, const Tensor& ids);

  // These work as in LmHead.
  void TakeInputs(const Tensor& ids) { head_->TakeInputs(ids); }
  absl::Status BeginStep(const HeadStep& step);
  bool capturable() const { return head_->capturable() && !future_.by_offset; }
  bool changes_gradient() const { return head_->changes_gradient(); }
  absl::Status ChangeGradient(double energy) { return head_->ChangeGradient(energy); }
  absl::Status RestoreGradient() { return head_->RestoreGradient(); }
  HeadLossValues head_losses() const { return head_->losses(); }
  const LossForm& form() const { return softmax_.form(); }
  absl::StatusOr<HeadView> View() { return head_->View(); }
  ParameterHandle parameter() const { return head_->parameter(); }
  // It is that of the first step.
  double ForwardFlopsPerToken() const {
    const int64_t more = head_->takes_future(1) ? 0 : schedule_.CountAt(1);
    return static_cast<double>(1 + more) * head_->ForwardFlopsPerToken();
  }
  double MoreBackwardFlopsPerToken() const { return head_->MoreBackwardFlopsPerToken(); }

 private:
  // This belongs to the later targets of the step that has begun.
  struct Future {
    std::vector<int32_t> targets;  // [1 + K, n]
    std::vector<double> weights;
    bool by_offset = false;   // the head takes one row of targets at a time
    int64_t step_tokens = 0;  // n
    Tensor grad_hidden;       // [N, D], of one row of targets; undefined for a head that takes all at once
  };

  void Place(TensorPlacer& placer);
  // Trains by one row of targets after the other, the ordinary ones last.
  absl::Status TrainByOffset(const HeadBatch& batch);
  // Scores the tokens by the head's Logits.
  absl::Status ReadScores(const Tensor& hidden, const Tensor& targets);
  absl::StatusOr<Tensor> RowLogits(Range rows, const Tensor& hidden);

  const PartSetting& setting_;
  std::unique_ptr<LmHead> head_;
  const int64_t chunk_;
  const FutureSchedule schedule_;
  SoftmaxLoss softmax_;
  Future future_;
  Arena arena_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_CHUNKED_LOSS_H_
