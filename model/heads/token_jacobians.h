// How a head's outputs depend on the hidden state of one token. Heads whose logits are not linear in it, or are not
// over the vocabulary, compare with others by these matrices.
//
// Any head gives probabilities of the whole vocabulary, and log P(v | h) may stand for the logits of a softmax over it.
// The gradient of a token's loss by them is p − y, whatever the head. J = ∂ log P / ∂h says which part of it a change
// of h can follow: its projection on the column space of J. Jᵀ(p − y) = ∂loss/∂h, because Jᵀp = 0. A z-loss is not
// counted there: it is no loss of the probabilities.
#ifndef ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_
#define ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/algebra/matrix.h"
#include "ops/loss_form.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct HeadView;

// These are the rows of one tensor rank, in fp64 on the host.
struct TokenJacobian {
  // ∂z/∂h [classes, D] of the logits z that the loss is computed from, before a soft cap. Tokens may share the matrix.
  std::shared_ptr<const Matrix> logits;
  Eigen::VectorXd gradient;              // ∂loss/∂z [classes], with a z-loss
  Matrix log_probabilities;              // J [V_i, D]
  Eigen::VectorXd probability_gradient;  // p − y [V_i]
};

// Some tokens of the micro-batch that the head has trained last, or whose inputs it took last (LmHead::TakeInputs). They
// are the same on all tensor ranks.
struct PlacedTokens {
  // Takes the rows `places` of `micro_batch`, and waits for the stream.
  static absl::StatusOr<PlacedTokens> Of(const Tensor& micro_batch, std::vector<int64_t> places,
                                         std::vector<int32_t> targets, const Stream& stream);

  Matrix hidden;  // [n, D]
  std::vector<int32_t> targets;
  // Where the states of one token depend on those of others, their Jacobians find them here.
  Tensor micro_batch;           // [N, D] on the stream's device
  std::vector<int64_t> places;  // rows of `micro_batch`
};

class TokenJacobians {
 public:
  using Visitor = std::function<absl::Status(TokenJacobian)>;

  virtual ~TokenJacobians() = default;
  // Calls visit for each token in order, until one fails. A Jacobian is by the token's own state, with those of other
  // tokens fixed. Weights are those of now. Waits for the stream. Collective over the tensor group.
  virtual absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) = 0;
};

// Returns those of the softmax over the vocabulary with the logits h Wᵀ + b of `view`. They keep the weights that their
// first Visit finds. `tensor` and `stream` must outlive them.
std::unique_ptr<TokenJacobians> LinearJacobians(const HeadView& view, const LossForm& form, Communicator& tensor,
                                                const Stream& stream);

// This rank's part of a softmax over classes that the ranks of a group share.
struct ShardedSoftmax {
  // Takes this rank's logits, before a soft cap. Collective.
  static absl::StatusOr<ShardedSoftmax> Of(const Eigen::VectorXd& logits, const LossForm& form, Communicator& tensor);

  // Returns the gradient of the trained loss by the logits. `target` is the class among this rank's; another rank's is
  // outside of them.
  Eigen::VectorXd Gradient(int64_t target, const LossForm& form) const;

  Eigen::VectorXd probabilities;
  Eigen::VectorXd slopes;  // of the soft cap
  double log_sum_exp = 0;  // over all ranks
};

// Returns those of one token, of a softmax over the vocabulary with the logits `values` [V_i], before a soft cap.
// `logits` are their derivatives. `target` is the token among this rank's rows; another rank's is outside of them.
// Collective.
absl::StatusOr<TokenJacobian> SoftmaxJacobian(std::shared_ptr<const Matrix> logits, const Eigen::VectorXd& values,
                                              int64_t target, const LossForm& form, Communicator& tensor);

// Sums `values` over the ranks of `tensor`. Collective.
absl::Status SumOver(Communicator& tensor, Eigen::Ref<Eigen::VectorXd> values);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_
