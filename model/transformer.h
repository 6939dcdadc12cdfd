// The decoder between token ids and hidden states: vocabulary-parallel embedding, decoder layers, final norm. The head
// and the loss are model/head_loss.h.
#ifndef ISTHMUS_MODEL_TRANSFORMER_H_
#define ISTHMUS_MODEL_TRANSFORMER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/activations.h"
#include "model/blocks/attention_block.h"
#include "model/blocks/feed_forward_block.h"
#include "model/parameters.h"
#include "parallel/communicator.h"
#include "runtime/named_tensor.h"

namespace isthmus {

class Transformer {
 public:
  struct Options {
    int64_t sequences = 1;  // of one micro-batch on this rank
    int64_t sequence_length = 1;
    bool sequence_parallel = false;
    bool recompute = false;
    bool fp8 = false;  // the layers multiply 8-bit operands (model/linear.h); needs bf16
    bool training = true;
  };

  // The activation memory that Create allocates.
  static ArenaLayout ActivationLayout(const ModelShape& shape, const TensorShard& shard, DType type,
                                      const Options& options, Device device);
  int64_t bytes() const { return arena_.bytes(); }

  // `parameters`, `tensor` and `stream` must outlive the transformer.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelShape& shape, const ParameterStore& parameters,
                                                             Communicator& tensor, const Options& options,
                                                             Stream& stream);

  // ids int32 [1, N], the same on all tensor ranks. Leaves the hidden states of all tokens in hidden().
  absl::Status Forward(const Tensor& ids);

  // From the gradient of the hidden states in grad_hidden(), complete, local tokens. Gradients of the parameters are
  // added to. `segment_ready`, where given, is called with each segment of the parameter table as its gradients become
  // complete: given on the last micro-batch only. `ids` as in Forward.
  using SegmentReady = std::function<absl::Status(int segment)>;
  // What a measured step keeps; in memory of the stream's device. Undefined tensors are left alone.
  struct Observation {
    // fp64 [1, L + 1]: the squared norm of the gradient of the residual stream is added, of what enters layer l at l,
    // of what enters the final norm at L; of the local tokens.
    Tensor layer_squares;
    // [V_i, D] accumulation type: the gradient of the embedding table as the input, without the head's, is added.
    Tensor embedding_gradient;
  };
  absl::Status Backward(const Tensor& ids, const SegmentReady& segment_ready, const Observation& observed);
  absl::Status Backward(const Tensor& ids, const SegmentReady& segment_ready) {
    return Backward(ids, segment_ready, Observation());
  }

  // [N, D] after the final norm; valid until Backward or the next Forward.
  const Tensor& hidden() const { return context_.scratch.normed; }
  // [N, D]: where the head leaves the gradient of hidden(): partial sums in all rows, then with region().Leave
  // the complete gradient in the local part.
  const Tensor& grad_hidden() const { return context_.scratch.branch; }
  // The tensors that the latest micro-batch has left, in the order of its forward pass: the residual stream at the
  // entrance of each block, and the tensors between. With recomputation: the residual stream at the entrance and the
  // exit of each layer. Tensors that the backward pass overwrites are left out.
  std::vector<NamedTensor> SavedTensors() const;
  const TensorRegion& region() const { return context_.region; }
  const BlockContext& context() const { return context_; }

 private:
  Transformer(const ModelShape& shape, const ParameterStore& parameters, Communicator& tensor, const Options& options,
              Stream& stream);

  absl::Status LayerBackward(int64_t layer);
  // Under sequence parallelism every tensor rank has seen its own tokens only: sums the norms' gradients.
  absl::Status ReduceNormGradients(int first_spec, int last_spec);

  Options options_;
  const ParameterStore& parameters_;
  Arena arena_;
  Activations activations_;
  BlockContext context_;
  std::vector<AttentionBlock> attention_;
  std::vector<FeedForwardBlock> feed_forward_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRANSFORMER_H_
