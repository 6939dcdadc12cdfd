// Computes the vocabulary-parallel softmax cross-entropy over any LM head, a chunk of tokens at a time. So no N×V
// matrix ever exists (DESIGN 3.5). Forward and backward of a chunk happen together: the gradient's scale is known
// beforehand.
//
// A chunk takes these steps: every rank's logits and statistics, one packed all-gather, the gradient of the logits, and
// the head's backward pass.
#ifndef ISTHMUS_MODEL_CHUNKED_LOSS_H_
#define ISTHMUS_MODEL_CHUNKED_LOSS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"

namespace isthmus {

// These are sums over the tokens that went through the head since ResetSums.
struct LossSums {
  double loss = 0;             // nats
  std::vector<double> energy;  // by shard: Σ_n Σ_{v in S_i} (p_nv - y_nv)²; times scale² it is the shard's part of ‖G‖²
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

class ChunkedLoss {
 public:
  // Makes the head of `config`, without memory. `loss_chunk` is the number of tokens whose logits exist at once.
  // `setting` must outlive the loss.
  ChunkedLoss(const proto::ModelConfig& config, const PartSetting& setting, int64_t loss_chunk);
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
  absl::Status ResetSums();
  // Returns the sums since then; waits for the stream.
  absl::StatusOr<LossSums> Sums();

  // hidden is [N, D] on every tensor rank, targets int32 [1, N]. Adds to the sums.
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets);

  // Does the same, with gradients of scale · Σ_n loss_n. Those of the head are added to the parameters' gradients. That
  // of `hidden` is left, complete, in the local part of grad_hidden [N, D].
  absl::Status Train(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                     const HeadObservation* observed = nullptr);

  // Returns logits of the rows of `hidden` [n, D], n <= loss_chunk, on this shard: fp32 (fp64) [n, V_i] in the loss's
  // memory.
  absl::StatusOr<Tensor> Logits(const Tensor& hidden);

  // These work as in LmHead.
  absl::Status BeginStep(int64_t step) { return head_->BeginStep(step); }
  bool changes_gradient() const { return head_->changes_gradient(); }
  absl::Status ChangeGradient() { return head_->ChangeGradient(); }
  absl::Status RestoreGradient() { return head_->RestoreGradient(); }
  absl::StatusOr<HeadView> View() { return head_->View(); }
  ParameterHandle parameter() const { return head_->parameter(); }
  double ForwardFlopsPerToken() const { return head_->ForwardFlopsPerToken(); }
  double MoreBackwardFlopsPerToken() const { return head_->MoreBackwardFlopsPerToken(); }

 private:
  struct Workspace {
    Tensor logits;       // [C, V_i] accumulation type
    Tensor grad_logits;  // [C, V_i] compute type; the memory of `logits` where the types agree
    Tensor statistics, gathered, loss, log_sum_exp, energy;
    Tensor sums;  // fp64 [1, 1 + shards]: LossSums
  };
  void Place(TensorPlacer& placer);
  // Calls visit(begin, tokens) for each chunk.
  template <typename Visit>
  absl::Status ForChunks(int64_t tokens, const Visit& visit) const;
  // Computes statistics and loss of one chunk, from its logits.
  absl::Status AddLoss(const Tensor& logits, const Tensor& targets);
  absl::Status LogitGradient(const Tensor& targets, double scale);
  // Keeps what the chunk of `tokens` tokens from `begin` on has left in the workspace.
  absl::Status Observe(int64_t begin, int64_t tokens, const HeadObservation& observed);

  const PartSetting& setting_;
  const int64_t chunk_;
  std::unique_ptr<LmHead> head_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Arena arena_;
  Workspace workspace_;
  HostBuffer host_sums_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_CHUNKED_LOSS_H_
