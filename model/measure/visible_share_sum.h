// Sums up the visible shares of tokens from their Jacobians.
#ifndef ISTHMUS_MODEL_MEASURE_VISIBLE_SHARE_SUM_H_
#define ISTHMUS_MODEL_MEASURE_VISIBLE_SHARE_SUM_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>

#include "model/algebra/matrix.h"
#include "model/heads/token_jacobians.h"
#include "model/measure/visible_shares.h"
#include "parallel/communicator.h"

namespace isthmus {

class VisibleShareSum {
 public:
  // The numbers of `tensor` are in host memory. It must outlive the sum.
  explicit VisibleShareSum(Communicator& tensor);
  ~VisibleShareSum();

  // Each token takes two QR decompositions, of matrices as long as the logits and the vocabulary: some 4 V D² operations
  // per token, over the tensor ranks. Tokens that follow each other with the same matrix of the logits share its own.
  // Collective.
  absl::Status Add(TokenJacobians& jacobians, const PlacedTokens& tokens);
  // All ranks of `tensor` have the same.
  const VisibleShares& shares() const { return shares_; }

 private:
  class ColumnSpace;

  absl::StatusOr<ColumnSpace> ColumnSpaceOf(const Matrix& own_rows) const;
  absl::Status AddToken(const TokenJacobian& token);
  absl::Status AddEnergies(const ColumnSpace& space, double square, Eigen::VectorXd b,
                           VisibleShares::Energies& energies) const;

  Communicator& tensor_;
  VisibleShares shares_;
  std::shared_ptr<const Matrix> factored_;  // the last matrix of logits
  std::unique_ptr<const ColumnSpace> of_logits_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_VISIBLE_SHARE_SUM_H_
