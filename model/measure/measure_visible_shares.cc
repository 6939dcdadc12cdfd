#include "model/measure/measure_visible_shares.h"

#include <Eigen/QR>
#include <memory>
#include <utility>

#include "model/measure/tall_qr.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The part of a gradient that lies in the column space of a matrix J whose rows are spread over the ranks.
class ColumnSpace {
 public:
  // Factors J Π = Q R. A Gram matrix would square the condition.
  static absl::StatusOr<ColumnSpace> Of(const Matrix& own_rows, Communicator& tensor) {
    // Rows of zeros change no R.
    Matrix own = Matrix::Zero(own_rows.cols(), own_rows.cols());
    if (own_rows.rows() > 0) {
      const TallQr qr(own_rows);
      own.topRows(qr.r().rows()) = qr.r();
    }
    if (tensor.size() == 1) return ColumnSpace(own);
    Matrix all(tensor.size() * own.rows(), own.cols());
    ISTHMUS_RETURN_IF_ERROR(tensor.AllGather(TensorOf(own), TensorOf(all)));
    return ColumnSpace(TallQr(all).r());
  }

  // Returns the squared length of the projection of g, from b = Jᵀ g: it is ‖y‖² with R₁₁ᵀ y = (Πᵀ b)₁, where R₁₁ has
  // the rank of J.
  double ProjectedSquare(const Eigen::VectorXd& b) const {
    const Eigen::Index rank = qr_.rank();
    const Eigen::VectorXd ordered = (qr_.colsPermutation().transpose() * b).head(rank);
    const auto leading = qr_.matrixR().topLeftCorner(rank, rank).triangularView<Eigen::Upper>();
    return leading.transpose().solve(ordered).squaredNorm();
  }

 private:
  explicit ColumnSpace(const Eigen::MatrixXd& r) {
    // Directions below so small a part of the largest are rounding.
    constexpr double kLeastDirection = 1e-12;
    qr_.setThreshold(kLeastDirection);
    qr_.compute(r);
  }

  Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr_;
};

// Adds a token, whose gradient's squared length on this rank is `square` and b = Jᵀ g of this rank's rows.
absl::Status AddToken(const ColumnSpace& space, double square, Eigen::VectorXd b, Communicator& tensor,
                      VisibleShares::Energies& energies) {
  Eigen::VectorXd whole = Eigen::VectorXd::Constant(1, square);
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, whole));
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, b));
  energies.whole += whole(0);
  energies.visible += space.ProjectedSquare(b);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VisibleShares> MeasureVisibleShares(TokenJacobians& jacobians, const Matrix& hidden,
                                                   absl::Span<const int32_t> targets, Communicator& tensor) {
  VisibleShares shares;
  shares.tokens = hidden.rows();
  std::shared_ptr<const Matrix> factored;
  std::unique_ptr<const ColumnSpace> of_logits;
  const auto add = [&](TokenJacobian token) -> absl::Status {
    if (token.logits != nullptr) {
      // Whether it is the same matrix is the same on all ranks.
      if (token.logits != factored) {
        ISTHMUS_ASSIGN_OR_RETURN(ColumnSpace space, ColumnSpace::Of(*token.logits, tensor));
        of_logits = std::make_unique<const ColumnSpace>(std::move(space));
        factored = token.logits;
      }
      const Eigen::VectorXd b = token.logits->transpose() * token.gradient;
      ISTHMUS_RETURN_IF_ERROR(AddToken(*of_logits, token.gradient.squaredNorm(), b, tensor, shares.logits));
    }
    ISTHMUS_ASSIGN_OR_RETURN(const ColumnSpace space, ColumnSpace::Of(token.log_probabilities, tensor));
    return AddToken(space, token.probability_gradient.squaredNorm(),
                    token.log_probabilities.transpose() * token.probability_gradient, tensor, shares.log_probabilities);
  };
  ISTHMUS_RETURN_IF_ERROR(jacobians.Visit(hidden, targets, add));
  return shares;
}

}  // namespace isthmus
