#include "model/measure/jacobian_sample.h"

#include <absl/types/span.h>

#include <array>
#include <utility>
#include <vector>

#include "model/heads/token_jacobians.h"
#include "model/measure/visible_share_sum.h"
#include "runtime/status.h"

namespace isthmus {

JacobianSample::JacobianSample(int64_t most, const LossForm& form, const Mesh& mesh, const Stream& stream)
    : most_(most), form_(form), mesh_(mesh), stream_(stream) {}

JacobianSample::~JacobianSample() = default;

void JacobianSample::Begin(int64_t local_tokens, const Tensor& targets) {
  begun_ = takes_any() && !stream_.dry();
  if (!begun_) return;
  sample_ = TokenSample::Of(local_tokens * mesh_.data_ranks(), most_);
  first_token_ = local_tokens * mesh_.data_rank();
  passed_ = 0;
  step_targets_ = targets;
  linear_ = nullptr;
  sum_ = std::make_unique<VisibleShareSum>(mesh_.tensor().host());
}

absl::Status JacobianSample::Add(const HeadView& head, const Tensor& hidden) {
  if (!head.not_linear.empty() && head.jacobians == nullptr) begun_ = false;
  if (!begun_) return absl::OkStatus();
  if (head.jacobians == nullptr && linear_ == nullptr) {
    linear_ = LinearJacobians(head, form_, mesh_.tensor().host(), stream_);
  }
  const TokenSample::Part part = sample_.In(first_token_ + passed_, hidden.rows);
  std::vector<int64_t> places;
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < part.count; ++i) {
    places.push_back(part.offset + i * sample_.stride);
    targets.push_back(step_targets_.As<int32_t>()[passed_ + places.back()]);
  }
  passed_ += hidden.rows;
  if (places.empty()) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const PlacedTokens tokens,
                           PlacedTokens::Of(hidden, std::move(places), std::move(targets), stream_));
  return sum_->Add(head.jacobians == nullptr ? *linear_ : *head.jacobians, tokens);
}

absl::StatusOr<std::optional<VisibleShares>> JacobianSample::Sum() {
  if (!std::exchange(begun_, false)) return std::nullopt;
  const VisibleShares& own = sum_->shares();
  std::array<double, 5> sums = {static_cast<double>(own.tokens), own.logits.whole, own.logits.visible,
                                own.log_probabilities.whole, own.log_probabilities.visible};
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduceNumbers(absl::MakeSpan(sums)));
  return VisibleShares{
      .tokens = static_cast<int64_t>(sums[0]), .logits = {sums[1], sums[2]}, .log_probabilities = {sums[3], sums[4]}};
}

}  // namespace isthmus
