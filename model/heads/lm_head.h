// The LM head: from hidden states to the logits of this rank's vocabulary rows, and back, with its loss.
//
// Calls come in this order: Declare; Place, which may come twice; Bind; then for each micro-batch Train or Evaluate. A
// step begins with BeginStep, and ends with ChangeGradient where a head has that.
//
// Most heads have one softmax over the vocabulary. They need no Train of their own: that of this class calls Begin, for
// each chunk Logits and Backward, and Finish. Evaluate and the generation of text call BeginReading and Logits, of
// every head.
#ifndef ISTHMUS_MODEL_HEADS_LM_HEAD_H_
#define ISTHMUS_MODEL_HEADS_LM_HEAD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/heads/softmax_loss.h"
#include "model/linear.h"
#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/tensor_region.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class TokenJacobians;  // model/heads/token_jacobians.h

// The classes of a step whose softmax is not over the rows of the vocabulary.
struct HeadClasses {
  std::vector<int32_t> rows;  // of the vocabulary, one for each class of all tensor ranks, ascending
  Tensor step_targets;        // int32 [1 + K, n] in host memory: the classes of HeadStep::targets
  Tensor targets;             // int32 [1 + K, N] on the stream's device: those of the last micro-batch
};

// A head that is linear, as the decomposition of its gradient sees it: logits = h Wᵀ + b with W = U, or W = U E.
struct HeadView {
  std::string not_linear;  // why there is no such view; the rest is empty then
  Range rows;              // the vocabulary rows of this shard, or its part of `classes`
  // With others than the rows of the vocabulary, V is their number in all figures. Null: with those.
  const HeadClasses* classes = nullptr;
  Tensor weight, gradient;       // U [V_i, width] and its gradient; of tied embeddings the sum of both uses'
  const Linear* down = nullptr;  // E [width, D]; null: W = U
  Tensor bias;                   // b [V_i, 1]; undefined: none
  // A = G U (DESIGN 4.1) of the last micro-batch: [rows, width]. Rows are the local tokens or all of them. It is valid
  // from Finish until the backbone's backward pass, which uses the same memory.
  Tensor signal;
  bool signal_is_local = false;
  // Also of a head that is not linear. Null: those of the softmax over the vocabulary with the logits h Wᵀ + b.
  TokenJacobians* jacobians = nullptr;
};

// The tokens of a step of training.
struct HeadStep {
  int64_t step = 0;  // from 1; not above the one before: training has gone back
  // int32 [1 + K, n] in host memory, contiguous: those of this data rank, in all micro-batches. Row k has the targets of
  // offset k (model/future_schedule.h). A step without later targets has K = 0.
  Tensor targets;
};

// A micro-batch of training.
struct HeadBatch {
  Tensor hidden;       // [N, D], the same on all tensor ranks
  Tensor targets;      // int32 [1 + K, N]; [1, N] for a head that does not take_future
  Tensor ids;          // int32 [1, N]: the tokens that went into the model; only for a head that reads_inputs()
  int64_t begin = 0;   // of its targets among all elements of HeadStep::targets
  double scale = 1;    // gradients are those of scale · Σ_n loss_n
  Tensor grad_hidden;  // [N, D]: the local part gets the gradient of `hidden`, complete
  const HeadObservation* observed = nullptr;
};

// These values were added to a step's loss: by losses on the head itself (model/heads/gradient/head_losses.h), and by
// the z-loss of its tokens. They are empty without such losses.
struct HeadLossValues {
  std::optional<double> orthogonality, alignment, z_loss;
  std::vector<std::optional<double>> future;  // mean cross-entropy of each later target, without its weight
};

class LmHead {
 public:
  virtual ~LmHead() = default;

  // Declares the parameters. `embedding`: the table of token embeddings, which a head may use.
  virtual void Declare(ParameterHandle embedding, ParameterBuilder& parameters) = 0;
  // Places all memory of the head. `chunk`: tokens of a chunk at most.
  virtual void Place(int64_t chunk, TensorPlacer& placer) = 0;
  // Takes views of the parameters. All must outlive the head.
  virtual void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) = 0;

  // Begins a step of training. Collective over the mesh.
  virtual absl::Status BeginStep(const HeadStep& /*step*/) { return absl::OkStatus(); }
  // Adds the loss of the tokens to the sums of `loss`, and their gradients to those of the parameters. Collective over
  // the tensor group.
  virtual absl::Status Train(const HeadBatch& batch, SoftmaxLoss& loss);
  // Whether Train takes all rows of a step's targets at once. That is so wherever SoftmaxLoss gets the targets as they
  // are. Another head's Train is called for one row after the other, and each call adds the gradients of its row.
  virtual bool takes_future(int64_t /*step*/) const { return true; }
  // Returns how many more classes than V_i a chunk of Train or Evaluate has on this rank, at most.
  virtual int64_t MoreClasses() const { return 0; }
  // Returns how many rows of logits a chunk must have room for, however few tokens it is set to.
  virtual int64_t LeastChunk() const { return 1; }
  // Whether the work of Train is the same for all micro-batches of one kind, whatever their tokens: a device may then
  // repeat it (runtime/captured_work.h).
  virtual bool capturable() const { return true; }
  // Whether it reads the tokens that went into the model, of whole sequences: HeadBatch::ids, or those of TakeInputs,
  // which are int32 [1, N] and belong to the rows of `hidden` of the next Evaluate or BeginReading, or of its
  // TokenJacobians.
  virtual bool reads_inputs() const { return false; }
  virtual void TakeInputs(const Tensor& /*ids*/) {}
  // Adds the loss of the tokens, by the softmax of the whole vocabulary, to the sums of `loss`. Targets are as in
  // HeadBatch. Also scores them (SoftmaxLoss::Score), unless log_probabilities(). Collective over the tensor group.
  virtual absl::Status Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss);

  // Begins a micro-batch: what all its chunks share. hidden [N, D], the same on all tensor ranks. Weights are those of
  // the step's beginning.
  virtual absl::Status Begin(const Tensor& hidden) = 0;
  // Begins in the same way where only logits are read. Weights may have changed since any other call.
  virtual absl::Status BeginReading(const Tensor& hidden) { return Begin(hidden); }
  // logits [n, V_i] accumulation type = those of tokens [begin, begin + n), before a soft cap.
  virtual absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) = 0;
  // Whether Logits are log-probabilities instead, of softmaxes that have their soft cap.
  virtual bool log_probabilities() const { return false; }
  // Adds the gradients of parameters, from the gradient of the same logits [n, V_i], compute type. Leaves this shard's
  // part of the gradient of `hidden` for Finish, perhaps in grad_hidden [N, D]. `signal` [n, width], if defined, gets
  // this shard's part of A before it is rounded (HeadView). It is of the accumulation type. Where that is the compute
  // type, only a head whose U is a parameter is asked for it. Only this class's Train calls Backward and Finish.
  virtual absl::Status Backward(const Tensor& /*hidden*/, int64_t /*begin*/, const Tensor& /*grad_logits*/,
                                const Tensor& /*grad_hidden*/, const Tensor& /*signal*/) {
    return absl::UnimplementedError("the head has a loss of its own");
  }
  // Ends a micro-batch: the local part of grad_hidden becomes the whole gradient of `hidden`.
  virtual absl::Status Finish(const Tensor& /*hidden*/, const Tensor& /*grad_hidden*/) { return absl::OkStatus(); }

  // Whether the optimizer gets other gradients of the head than those that were backpropagated. ChangeGradient makes
  // them, when gradients are summed over the data ranks, and that of `parameter` is whole on each. `energy` is ‖G‖² of
  // this data rank's tokens in the step. RestoreGradient brings those back that it found. Collective over both groups.
  virtual bool changes_gradient() const { return false; }
  virtual absl::Status ChangeGradient(double /*energy*/) { return absl::OkStatus(); }
  virtual absl::Status RestoreGradient() { return absl::OkStatus(); }
  // The values of the last ChangeGradient, of losses on the head itself.
  virtual HeadLossValues losses() const { return {}; }

  // The head as it is now. Gradients are those that the parameters have. A head whose U is derived from its parameters
  // computes U, and U's gradient from theirs.
  virtual absl::StatusOr<HeadView> View() = 0;
  // The parameter with the vocabulary rows: U, or the one that U's gradient is derived from.
  virtual ParameterHandle parameter() const = 0;
  // Floating-point operations of the forward pass per token, for the whole vocabulary.
  virtual double ForwardFlopsPerToken() const = 0;
  // Those of the backward pass beyond twice as many.
  virtual double MoreBackwardFlopsPerToken() const { return 0; }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LM_HEAD_H_
