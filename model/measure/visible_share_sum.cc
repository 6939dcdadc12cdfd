#include "model/measure/visible_share_sum.h"

#include <Eigen/QR>
#include <utility>

#include "model/measure/tall_qr.h"
#include "runtime/status.h"

namespace isthmus {

// The column space of a matrix J, from the R of a QR decomposition.
class VisibleShareSum::ColumnSpace {
 public:
  explicit ColumnSpace(const Eigen::MatrixXd& r) {
    // Directions below so small a part of the largest are rounding.
    constexpr double kLeastDirection = 1e-12;
    qr_.setThreshold(kLeastDirection);
    qr_.compute(r);
  }

  // Returns the squared length of the projection of g, from b = Jᵀ g: it is ‖y‖² with R₁₁ᵀ y = (Πᵀ b)₁, where R₁₁ has
  // the rank of J, and J Π = Q R.
  double ProjectedSquare(const Eigen::VectorXd& b) const {
    const Eigen::Index rank = qr_.rank();
    const Eigen::VectorXd ordered = (qr_.colsPermutation().transpose() * b).head(rank);
    const auto leading = qr_.matrixR().topLeftCorner(rank, rank).triangularView<Eigen::Upper>();
    return leading.transpose().solve(ordered).squaredNorm();
  }

 private:
  Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr_;
};

VisibleShareSum::VisibleShareSum(Communicator& tensor) : tensor_(tensor) {}

VisibleShareSum::~VisibleShareSum() = default;

// Takes a matrix whose rows are spread over the ranks. A Gram matrix would square the condition.
absl::StatusOr<VisibleShareSum::ColumnSpace> VisibleShareSum::ColumnSpaceOf(const Matrix& own_rows) const {
  // Rows of zeros change no R.
  Matrix own = Matrix::Zero(own_rows.cols(), own_rows.cols());
  if (own_rows.rows() > 0) {
    const TallQr qr(own_rows);
    own.topRows(qr.r().rows()) = qr.r();
  }
  if (tensor_.size() == 1) return ColumnSpace(own);
  Matrix all(tensor_.size() * own.rows(), own.cols());
  ISTHMUS_RETURN_IF_ERROR(tensor_.AllGather(TensorOf(own), TensorOf(all)));
  return ColumnSpace(TallQr(all).r());
}

// Adds a gradient, whose squared length on this rank is `square`, and b = Jᵀ g of this rank's rows.
absl::Status VisibleShareSum::AddEnergies(const ColumnSpace& space, double square, Eigen::VectorXd b,
                                          VisibleShares::Energies& energies) const {
  Eigen::VectorXd whole = Eigen::VectorXd::Constant(1, square);
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, whole));
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, b));
  energies.whole += whole(0);
  energies.visible += space.ProjectedSquare(b);
  return absl::OkStatus();
}

absl::Status VisibleShareSum::AddToken(const TokenJacobian& token) {
  ++shares_.tokens;
  // Whether it is the same matrix is the same on all ranks.
  if (token.logits != factored_) {
    ISTHMUS_ASSIGN_OR_RETURN(ColumnSpace space, ColumnSpaceOf(*token.logits));
    of_logits_ = std::make_unique<const ColumnSpace>(std::move(space));
    factored_ = token.logits;
  }
  ISTHMUS_RETURN_IF_ERROR(AddEnergies(*of_logits_, token.gradient.squaredNorm(),
                                      token.logits->transpose() * token.gradient, shares_.logits));
  ISTHMUS_ASSIGN_OR_RETURN(const ColumnSpace space, ColumnSpaceOf(token.log_probabilities));
  return AddEnergies(space, token.probability_gradient.squaredNorm(),
                     token.log_probabilities.transpose() * token.probability_gradient, shares_.log_probabilities);
}

absl::Status VisibleShareSum::Add(TokenJacobians& jacobians, const PlacedTokens& tokens) {
  return jacobians.Visit(tokens, [this](const TokenJacobian& token) { return AddToken(token); });
}

}  // namespace isthmus
