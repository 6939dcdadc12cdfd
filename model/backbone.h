// The backbone is the model between token ids and hidden states: vocabulary-parallel embedding, layers of blocks, final
// norm. The head and the loss are in model/chunked_loss.h. The backbone knows no kind of block: a family's table lists
// them (model/families/family.h).
#ifndef ISTHMUS_MODEL_BACKBONE_H_
#define ISTHMUS_MODEL_BACKBONE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/embedding.h"
#include "model/layer.h"
#include "model/norm.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "model/shared_tables.h"
#include "model/stream_observation.h"
#include "model/tensor_region.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/named_tensor.h"

namespace isthmus {

class Backbone {
 public:
  // Makes the parts, without memory. `setting` must outlive the backbone. `config` must be resolved.
  Backbone(const proto::ModelConfig& config, const PartSetting& setting);
  Backbone(const Backbone&) = delete;
  Backbone& operator=(const Backbone&) = delete;

  // Declares the embedding and the layers, a segment each, and the final norm, which begins the last segment.
  void Declare(ParameterBuilder& parameters);
  ParameterHandle embedding() const { return embedding_.parameter(); }
  // Describes the activation memory.
  ArenaLayout Layout();
  int64_t bytes() const { return arena_.bytes(); }
  // Allocates the activation memory. `parameters` must come from what Declare declared. They, `region` and `stream`
  // must outlive the backbone.
  absl::Status Allocate(const ParameterStore& parameters, const TensorRegion& region, Stream& stream);

  // ids is int32 [1, N], the same on all tensor ranks. Leaves the hidden states of all tokens in hidden().
  absl::Status Forward(const Tensor& ids);

  // Starts from the gradient of the hidden states in grad_hidden(), complete, local tokens. Adds to the gradients of
  // the parameters. If `segment_ready` is given, it is called with each segment of the parameter table as its gradients
  // become complete. It is given on the last micro-batch only. `ids` is as in Forward.
  using SegmentReady = std::function<absl::Status(int segment)>;
  // A measured step fills these tensors, in memory of the stream's device. Undefined tensors are left alone.
  struct Observation {
    // fp64 [1, L + 1]: the squared gradient norm of the residual stream, of the local tokens, is added. That at the
    // entrance of layer l goes to l, that at the final norm's to L.
    Tensor layer_squares;
    // [V_i, D] accumulation type: the gradient of the embedding table as the input, without the head's, is added.
    Tensor embedding_gradient;
    // The residual stream itself, of the local tokens, is added.
    StreamObservation stream;
  };
  absl::Status Backward(const Tensor& ids, const SegmentReady& segment_ready, const Observation& observed);
  absl::Status Backward(const Tensor& ids, const SegmentReady& segment_ready) {
    return Backward(ids, segment_ready, Observation());
  }

  // Returns [N, D] after the final norm; valid until Backward or the next Forward.
  const Tensor& hidden() const { return hidden_; }
  // Returns [N, D], in which the head leaves the gradient of hidden(). It has partial sums in all rows, then with
  // TensorRegion::Leave the complete gradient in the local part. It is valid from Forward to Backward.
  const Tensor& grad_hidden() const { return grad_hidden_; }
  // Returns the tensors that the latest micro-batch has left, in the order of its forward pass. They are the residual
  // stream at the entrance of each block, and the tensors between. With recomputation they are the residual stream at
  // the entrance and the exit of each layer. Tensors that the backward pass overwrites are left out.
  std::vector<NamedTensor> SavedTensors() const;
  // Counts forward and backward pass per token, beside the products with parameters; as Block::ForwardFlopsPerToken.
  double FlopsPerToken(bool causal) const;

 private:
  // Places every tensor; run without an arena it plans.
  void Place(TensorPlacer& placer);
  absl::Status EmbeddingBackward(const Tensor& ids, const Tensor& observed);
  // Is called when all gradients of the segment are complete on this rank. Sums the parts over the tensor ranks.
  absl::Status EndSegment(int segment, const SegmentReady& segment_ready) const;

  const PartSetting& setting_;
  Embedding embedding_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<Norm> final_norm_;  // of the same kind as those of the layers
  const ParameterStore* parameters_ = nullptr;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  Arena arena_;
  SharedTables tables_;
  LayerScratch scratch_;
  Tensor hidden_, grad_hidden_;
  Tensor final_x_;      // kept: [local tokens, D] the residual stream before the final norm
  Tensor grad_stream_;  // [local tokens, D] gradient of the residual stream
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BACKBONE_H_
