#include "model/heads/token_jacobians.h"

#include <cmath>
#include <cstddef>
#include <utility>

#include "model/algebra/host_copy.h"
#include "model/heads/lm_head.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class JacobiansOfRows : public TokenJacobians {
 public:
  JacobiansOfRows(HeadView view, Communicator& tensor, const Stream& stream)
      : view_(std::move(view)), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const Matrix& hidden, absl::Span<const int32_t> targets, const Visitor& visit) override {
    ISTHMUS_ASSIGN_OR_RETURN(Matrix weight, HostCopy(view_.weight, stream_));
    if (view_.down != nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(const Matrix down, HostCopy(view_.down->weight, stream_));
      weight = (weight * down).eval();
    }
    const auto shared = std::make_shared<const Matrix>(std::move(weight));
    for (Eigen::Index n = 0; n < hidden.rows(); ++n) {
      TokenJacobian token;
      token.logits = shared;
      ISTHMUS_ASSIGN_OR_RETURN(token.gradient, ShardedSoftmax(*shared * hidden.row(n).transpose(), tensor_));
      Eigen::VectorXd mean = shared->transpose() * token.gradient;
      ISTHMUS_RETURN_IF_ERROR(SumOver(tensor_, mean));
      token.log_probabilities = shared->rowwise() - mean.transpose();
      const int64_t target = targets[static_cast<size_t>(n)];
      if (view_.rows.Contains(target)) token.gradient(target - view_.rows.begin) -= 1;
      token.probability_gradient = token.gradient;
      ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
    }
    return absl::OkStatus();
  }

 private:
  const HeadView view_;
  Communicator& tensor_;
  const Stream& stream_;
};

}  // namespace

std::unique_ptr<TokenJacobians> LinearJacobians(const HeadView& view, Communicator& tensor, const Stream& stream) {
  return std::make_unique<JacobiansOfRows>(view, tensor, stream);
}

absl::Status SumOver(Communicator& tensor, Eigen::Ref<Eigen::VectorXd> values) {
  if (tensor.size() == 1 || values.size() == 0) return absl::OkStatus();
  return tensor.AllReduceNumbers(absl::MakeSpan(values.data(), static_cast<size_t>(values.size())));
}

absl::StatusOr<Eigen::VectorXd> ShardedSoftmax(const Eigen::VectorXd& logits, Communicator& tensor) {
  Eigen::VectorXd largest = Eigen::VectorXd::Constant(1, logits.size() == 0 ? -HUGE_VAL : logits.maxCoeff());
  if (tensor.size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(largest.data(), 1), Reduction::kMax));
  }
  const Eigen::VectorXd exponentials = (logits.array() - largest(0)).exp();
  Eigen::VectorXd sum = Eigen::VectorXd::Constant(1, exponentials.sum());
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, sum));
  return exponentials / sum(0);
}

}  // namespace isthmus
