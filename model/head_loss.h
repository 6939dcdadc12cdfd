// The vocabulary-parallel LM head fused with softmax cross-entropy, over chunks of tokens, so that no N×V matrix ever
// exists (DESIGN 3.5). Forward and backward of a chunk happen together: the gradient's scale is known beforehand.
//
//   full head        logits = h Wᵀ            W [V, D] sharded by rows, or the embedding table when tied
//   factorised head  logits = (h Eᵀ) Uᵀ       U [V, R] sharded by rows, E [R, D] on every rank
//
// Per chunk: every rank's logits and statistics, one packed all-gather, the gradient of the logits, its products with
// the shard's rows and with the hidden states.
#ifndef ISTHMUS_MODEL_HEAD_LOSS_H_
#define ISTHMUS_MODEL_HEAD_LOSS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "model/linear.h"
#include "model/parameters.h"
#include "model/tensor_region.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"

namespace isthmus {

// Sums over the tokens that went through the head since ResetSums.
struct HeadLossSums {
  double loss = 0;             // nats
  std::vector<double> energy;  // by shard: Σ_n Σ_{v in S_i} (p_nv - y_nv)²; times scale² it is the shard's part of ‖G‖²
};

// What a measured step keeps of its tokens and vocabulary rows beside the sums; in memory of the stream's device.
struct HeadObservation {
  Tensor loss;         // [1, N] accumulation type
  Tensor log_sum_exp;  // [1, N] accumulation type
  Tensor energy;       // fp64 [shards, N]: of one token, as HeadLossSums::energy
  Tensor row_energy;   // fp64 [1, V_i]: Σ_n G[n, v]² of this shard is added
  // [N, head_width] accumulation type: this shard's part of A, before it is rounded to the compute type and summed over
  // the shards. Left out where it is not defined; must not be where the two types are the same.
  Tensor signal;
};

class HeadLoss {
 public:
  struct Options {
    int64_t tokens = 1;      // N of one micro-batch
    int64_t loss_chunk = 1;  // tokens whose logits exist at once
    bool training = true;
  };

  // Head and loss memory that Create allocates: independent of N but for [N, R] buffers of a factorised head.
  static ArenaLayout WorkspaceLayout(const ModelShape& shape, const TensorShard& shard, DType type,
                                     const Options& options);
  int64_t bytes() const { return arena_.bytes(); }

  // `parameters`, `region` and `stream` must outlive the head.
  static absl::StatusOr<HeadLoss> Create(const ModelShape& shape, const ParameterStore& parameters,
                                         const TensorRegion& region, const Options& options, Stream& stream);

  // Forgets what was summed.
  absl::Status ResetSums();
  // What was summed since; waits for the stream.
  absl::StatusOr<HeadLossSums> Sums();

  // hidden [N, D] on every tensor rank, targets int32 [1, N]. Adds to the sums.
  absl::Status Evaluate(const Tensor& hidden, const Tensor& targets);

  // The same, with gradients of scale · Σ_n loss_n: those of the head are added to the parameters' gradients, that of
  // `hidden` is left, complete, in the local part of grad_hidden [N, D].
  absl::Status Train(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                     const HeadObservation* observed = nullptr);

  // Logits of the rows of `hidden` [n, D], n <= loss_chunk, on this shard: fp32 (fp64) [n, V_i] in the head's
  // workspace.
  absl::StatusOr<Tensor> Logits(const Tensor& hidden);

  // A = G W (DESIGN 4.1) of the last Train call with respect to the vocabulary-sized factor: [rows, head_width]. Valid
  // until the next call. Under sequence parallelism and a full head the rows are the local tokens, else all tokens.
  const Tensor& hidden_gradient() const { return hidden_gradient_; }
  bool hidden_gradient_is_local() const { return !factorised() && region_->sequence_parallel(); }
  // The vocabulary rows of this shard, [V_i, head_width]: W, or U of a factorised head.
  const Tensor& vocabulary_weight() const { return vocabulary_.weight; }
  // Its gradient, accumulation type: of tied embeddings the sum of both uses'.
  const Tensor& vocabulary_gradient() const { return vocabulary_.gradient; }
  // E of a factorised head, else undefined.
  const Linear& down() const { return down_; }
  // The vocabulary rows of this shard.
  Range vocabulary_rows() const { return shard_.vocabulary; }

 private:
  struct Workspace {
    Tensor logits;       // [C, V_i] accumulation type
    Tensor grad_logits;  // [C, V_i] compute type; the memory of `logits` where the types agree
    // [C, R or D] accumulation type, only where that is not the compute type: the input's gradient before it is
    // rounded. On all steps, so that measured ones compute the same bits.
    Tensor wide_grad_input;
    Tensor statistics, gathered, loss, log_sum_exp, energy;
    Tensor sums;            // fp64 [1, 1 + shards]: HeadLossSums
    Tensor projected;       // [N, R] h Eᵀ; only of a factorised head
    Tensor grad_projected;  // [N, R]
  };
  static Workspace Place(const ModelShape& shape, const TensorShard& shard, DType type, const Options& options,
                         TensorPlacer& placer);

  bool factorised() const { return down_.weight.defined(); }
  // Logits, statistics and loss of one chunk of the head's input.
  absl::Status ForwardChunk(const Tensor& input, const Tensor& targets);
  // `grad_input`: the rows from token `begin` on, as many as `input` has.
  absl::Status BackwardChunk(const Tensor& input, const Tensor& targets, double scale, int64_t begin,
                             const Tensor& grad_input, const HeadObservation* observed);
  // Keeps what the chunk of `tokens` tokens from `begin` on has left in the workspace.
  absl::Status Observe(int64_t begin, int64_t tokens, const HeadObservation& observed);
  absl::Status Run(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                   const HeadObservation* observed);

  Options options_;
  TensorShard shard_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Linear vocabulary_;  // W or U
  Linear down_;        // E of a factorised head
  Arena arena_;
  Workspace workspace_;
  HostBuffer host_sums_;
  Tensor hidden_gradient_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEAD_LOSS_H_
