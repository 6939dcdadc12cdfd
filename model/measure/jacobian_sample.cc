#include "model/measure/jacobian_sample.h"

#include <absl/types/span.h>

#include <array>
#include <cstddef>
#include <memory>
#include <utility>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/heads/token_jacobians.h"
#include "model/measure/measure_visible_shares.h"
#include "runtime/status.h"

namespace isthmus {

void JacobianSample::Begin(int64_t local_tokens, const Tensor& targets) {
  begun_ = takes_any() && !stream_.dry();
  if (!begun_) return;
  sample_ = TokenSample::Of(local_tokens * mesh_.data_ranks(), most_);
  first_token_ = local_tokens * mesh_.data_rank();
  passed_ = 0;
  step_targets_ = targets;
  targets_.clear();
  hidden_.clear();
}

absl::Status JacobianSample::Add(const Tensor& hidden) {
  if (!begun_) return absl::OkStatus();
  const TokenSample::Part part = sample_.In(first_token_ + passed_, hidden.rows);
  for (int64_t i = 0; i < part.count; ++i) {
    const int64_t token = part.offset + i * sample_.stride;
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix row, HostCopy(hidden.RowSlice(token, 1), stream_));
    hidden_.insert(hidden_.end(), row.data(), row.data() + row.size());
    targets_.push_back(step_targets_.As<int32_t>()[passed_ + token]);
  }
  passed_ += hidden.rows;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<VisibleShares>> JacobianSample::Measure(const HeadView& head) {
  if (!std::exchange(begun_, false)) return std::nullopt;
  if (!head.not_linear.empty() && head.jacobians == nullptr) return std::nullopt;
  Communicator& tensor = mesh_.tensor().host();
  const auto linear = head.jacobians == nullptr ? LinearJacobians(head, form_, tensor, stream_) : nullptr;
  const auto tokens = static_cast<Eigen::Index>(targets_.size());
  const Eigen::Index width = tokens == 0 ? 0 : static_cast<Eigen::Index>(hidden_.size()) / tokens;
  const Matrix hidden = Eigen::Map<const Matrix>(hidden_.data(), tokens, width);
  ISTHMUS_ASSIGN_OR_RETURN(VisibleShares shares, MeasureVisibleShares(linear == nullptr ? *head.jacobians : *linear,
                                                                      hidden, targets_, tensor));
  std::array<double, 5> sums = {static_cast<double>(shares.tokens), shares.logits.whole, shares.logits.visible,
                                shares.log_probabilities.whole, shares.log_probabilities.visible};
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(sums)));
  return VisibleShares{
      .tokens = static_cast<int64_t>(sums[0]), .logits = {sums[1], sums[2]}, .log_probabilities = {sums[3], sums[4]}};
}

}  // namespace isthmus
