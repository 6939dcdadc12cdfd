// How a head's outputs depend on the hidden state of one token. Heads whose logits are not linear in it, or are not
// over the vocabulary, compare with others by these matrices.
//
// Any head gives probabilities of the whole vocabulary, and log P(v | h) may stand for the logits of a softmax over it.
// The gradient of a token's loss by them is p − y, whatever the head. J = ∂ log P / ∂h says which part of it a change
// of h can follow: its projection on the column space of J. Jᵀ(p − y) = ∂loss/∂h, because Jᵀp = 0.
#ifndef ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_
#define ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

struct HeadView;

// These are the rows of one tensor rank, in fp64 on the host.
struct TokenJacobian {
  // ∂z/∂h [classes, D] of the logits z that the loss is computed from. Tokens may share the matrix.
  std::shared_ptr<const Matrix> logits;
  Eigen::VectorXd gradient;              // ∂loss/∂z [classes]
  Matrix log_probabilities;              // J [V_i, D]
  Eigen::VectorXd probability_gradient;  // p − y [V_i]
};

class TokenJacobians {
 public:
  using Visitor = std::function<absl::Status(TokenJacobian)>;

  virtual ~TokenJacobians() = default;
  // Calls visit for each token in order, until one fails. Row n of hidden [n, D], the same on all tensor ranks, is the
  // state of a token with targets[n]. Weights are those of now. Waits for the stream. Collective over the tensor group.
  virtual absl::Status Visit(const Matrix& hidden, absl::Span<const int32_t> targets, const Visitor& visit) = 0;
};

// Returns those of the softmax over the vocabulary with the logits h Wᵀ of `view`. `tensor` and `stream` must outlive
// them.
std::unique_ptr<TokenJacobians> LinearJacobians(const HeadView& view, Communicator& tensor, const Stream& stream);

// Returns this rank's part of the softmax of logits that the ranks of `tensor` share. Collective.
absl::StatusOr<Eigen::VectorXd> ShardedSoftmax(const Eigen::VectorXd& logits, Communicator& tensor);

// Sums `values` over the ranks of `tensor`. Collective.
absl::Status SumOver(Communicator& tensor, Eigen::Ref<Eigen::VectorXd> values);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_TOKEN_JACOBIANS_H_
