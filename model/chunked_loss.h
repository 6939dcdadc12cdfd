// The LM head of a model with its memory: the loss of hidden states, and its gradient. No N×V matrix ever exists,
// because heads take a chunk of tokens at a time (model/heads/softmax_loss.h). Forward and backward of a chunk happen
// together: the gradient's scale is known beforehand.
#ifndef ISTHMUS_MODEL_CHUNKED_LOSS_H_
#define ISTHMUS_MODEL_CHUNKED_LOSS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>

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
  // some heads read (LmHead::reads_inputs). Adds to the sums.
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, const Tensor& ids = {}) {
    head_->TakeInputs(ids);
    return head_->Evaluate(hidden, targets, softmax_);
  }

  // Does the same, with gradients (HeadBatch), by the loss that the head trains with.
  absl::Status Train(const HeadBatch& batch) { return head_->Train(batch, softmax_); }

  // Returns logits of the rows of `hidden` [n, D], n <= loss_chunk, on this shard: fp32 (fp64) [n, V_i] in the loss's
  // memory. Their softmax are the probabilities: a soft cap is on them.
  absl::StatusOr<Tensor> Logits(const Tensor& hidden);
  // Returns those of the row `token`, of any head: it may read the rows and the `ids` before it.
  absl::StatusOr<Tensor> LogitsOf(int64_t token, const Tensor& hidden, const Tensor& ids);

  // These work as in LmHead.
  absl::Status BeginStep(const HeadStep& step) { return head_->BeginStep(step); }
  bool capturable() const { return head_->capturable(); }
  bool changes_gradient() const { return head_->changes_gradient(); }
  absl::Status ChangeGradient(double energy) { return head_->ChangeGradient(energy); }
  absl::Status RestoreGradient() { return head_->RestoreGradient(); }
  HeadLossValues head_losses() const { return head_->losses(); }
  const LossForm& form() const { return softmax_.form(); }
  absl::StatusOr<HeadView> View() { return head_->View(); }
  ParameterHandle parameter() const { return head_->parameter(); }
  double ForwardFlopsPerToken() const { return head_->ForwardFlopsPerToken(); }
  double MoreBackwardFlopsPerToken() const { return head_->MoreBackwardFlopsPerToken(); }

 private:
  void Place(TensorPlacer& placer);
  absl::StatusOr<Tensor> RowLogits(Range rows, const Tensor& hidden);

  const PartSetting& setting_;
  std::unique_ptr<LmHead> head_;
  const int64_t chunk_;
  SoftmaxLoss softmax_;
  Arena arena_;
  Stream* stream_ = nullptr;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_CHUNKED_LOSS_H_
