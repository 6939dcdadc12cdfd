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
  JacobiansOfRows(HeadView view, const LossForm& form, Communicator& tensor, const Stream& stream)
      : view_(std::move(view)), form_(form), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const Matrix& hidden, absl::Span<const int32_t> targets, const Visitor& visit) override {
    ISTHMUS_ASSIGN_OR_RETURN(Matrix weight, HostCopy(view_.weight, stream_));
    if (view_.down != nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(const Matrix down, HostCopy(view_.down->weight, stream_));
      weight = (weight * down).eval();
    }
    Matrix bias = Matrix::Zero(weight.rows(), 1);
    if (view_.bias.defined()) {
      ISTHMUS_ASSIGN_OR_RETURN(bias, HostCopy(view_.bias, stream_));
    }
    const auto shared = std::make_shared<const Matrix>(std::move(weight));
    for (Eigen::Index n = 0; n < hidden.rows(); ++n) {
      const int64_t target = targets[static_cast<size_t>(n)] - view_.rows.begin;
      ISTHMUS_ASSIGN_OR_RETURN(TokenJacobian token, SoftmaxJacobian(shared, *shared * hidden.row(n).transpose() + bias,
                                                                    target, form_, tensor_));
      ISTHMUS_RETURN_IF_ERROR(visit(std::move(token)));
    }
    return absl::OkStatus();
  }

 private:
  const HeadView view_;
  const LossForm form_;
  Communicator& tensor_;
  const Stream& stream_;
};

}  // namespace

std::unique_ptr<TokenJacobians> LinearJacobians(const HeadView& view, const LossForm& form, Communicator& tensor,
                                                const Stream& stream) {
  return std::make_unique<JacobiansOfRows>(view, form, tensor, stream);
}

absl::StatusOr<TokenJacobian> SoftmaxJacobian(std::shared_ptr<const Matrix> logits, const Eigen::VectorXd& values,
                                              int64_t target, const LossForm& form, Communicator& tensor) {
  TokenJacobian token;
  token.logits = std::move(logits);
  ISTHMUS_ASSIGN_OR_RETURN(const ShardedSoftmax softmax, ShardedSoftmax::Of(values, form, tensor));
  token.gradient = softmax.Gradient(target, form);
  token.log_probabilities = softmax.slopes.asDiagonal() * *token.logits;
  Eigen::VectorXd mean = token.log_probabilities.transpose() * softmax.probabilities;
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, mean));
  token.log_probabilities.rowwise() -= mean.transpose();
  token.probability_gradient = softmax.probabilities;
  if (target >= 0 && target < softmax.probabilities.size()) token.probability_gradient(target) -= 1;
  return token;
}

absl::Status SumOver(Communicator& tensor, Eigen::Ref<Eigen::VectorXd> values) {
  if (tensor.size() == 1 || values.size() == 0) return absl::OkStatus();
  return tensor.AllReduceNumbers(absl::MakeSpan(values.data(), static_cast<size_t>(values.size())));
}

absl::StatusOr<ShardedSoftmax> ShardedSoftmax::Of(const Eigen::VectorXd& logits, const LossForm& form,
                                                  Communicator& tensor) {
  const Eigen::VectorXd capped = logits.unaryExpr([&](double logit) { return form.Capped(logit); });
  Eigen::VectorXd largest = Eigen::VectorXd::Constant(1, capped.size() == 0 ? -HUGE_VAL : capped.maxCoeff());
  if (tensor.size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(largest.data(), 1), Reduction::kMax));
  }
  ShardedSoftmax softmax;
  softmax.probabilities = (capped.array() - largest(0)).exp();
  Eigen::VectorXd sum = Eigen::VectorXd::Constant(1, softmax.probabilities.sum());
  ISTHMUS_RETURN_IF_ERROR(SumOver(tensor, sum));
  softmax.probabilities /= sum(0);
  softmax.slopes = capped.unaryExpr([&](double logit) { return form.Slope(logit); });
  softmax.log_sum_exp = largest(0) + std::log(sum(0));
  return softmax;
}

Eigen::VectorXd ShardedSoftmax::Gradient(int64_t target, const LossForm& form) const {
  Eigen::VectorXd gradient = form.ProbabilityFactor(log_sum_exp) * probabilities;
  if (target >= 0 && target < gradient.size()) gradient(target) -= 1;
  return slopes.cwiseProduct(gradient);
}

}  // namespace isthmus
