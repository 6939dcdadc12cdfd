#include "launch/run/stability.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>

#include "checkpoint/manifest_check.h"

namespace isthmus {
namespace {

SpikeDetector DetectorOf(const proto::StabilityConfig& config, const google::protobuf::RepeatedField<double>& values) {
  return SpikeDetector(static_cast<size_t>(config.spike().window()),
                       absl::MakeConstSpan(values.data(), static_cast<size_t>(values.size())));
}

void SetValues(const SpikeDetector& detector, google::protobuf::RepeatedField<double>& values) {
  const std::vector<double> ordered = detector.values();
  values.Assign(ordered.begin(), ordered.end());
}

}  // namespace

Stability::Stability(const proto::StabilityConfig& config, const proto::StabilityState& state)
    : config_(config),
      losses_(DetectorOf(config, state.losses())),
      gradient_norms_(DetectorOf(config, state.gradient_norms())),
      counts_(state) {
  counts_.clear_losses();
  counts_.clear_gradient_norms();
}

Stability::Scores Stability::ScoresOf(const StepFigures& figures) const {
  return {losses_.Score(figures.loss), gradient_norms_.Score(figures.gradient_norm)};
}

bool Stability::IsSpike(const Scores& scores) const {
  const auto above = [](double score, double threshold) { return threshold > 0 && score > threshold; };
  return above(scores.loss, config_.spike().loss_threshold()) ||
         above(scores.gradient_norm, config_.spike().gradient_norm_threshold());
}

bool Stability::Accepts(const StepFigures& figures) const {
  return config_.spike().policy() == proto::SpikeConfig::NONE || !IsSpike(ScoresOf(figures));
}

void Stability::Applied(const StepFigures& figures) {
  const Scores scores = ScoresOf(figures);
  const bool loss = config_.spike().loss_threshold() > 0, norm = config_.spike().gradient_norm_threshold() > 0;
  if (losses_.full() && (loss || norm)) {
    last_score_ = loss && norm ? std::max(scores.loss, scores.gradient_norm)
                  : loss       ? scores.loss
                               : scores.gradient_norm;
  }
  if (IsSpike(scores)) counts_.set_spikes_total(counts_.spikes_total() + 1);
  losses_.Add(figures.loss);
  gradient_norms_.Add(figures.gradient_norm);
}

std::string Stability::LimitReached(int64_t step) const {
  int64_t in_a_row = 0, in_window = 0;
  int64_t passed_over = config_.rollback_batches();
  bool unbroken = true;
  for (auto refused = counts_.refused().rbegin(); refused != counts_.refused().rend(); ++refused) {
    unbroken = unbroken && refused->step() == step;
    if (unbroken) ++in_a_row;
    passed_over += refused->batches();
    if (refused->step() > step - config_.window()) ++in_window;
  }
  if (in_a_row >= config_.max_in_a_row()) {
    return absl::StrCat("it was refused ", in_a_row, " times in a row, as often as stability.max_in_a_row allows");
  }
  if (in_window >= config_.max_in_window()) {
    return absl::StrCat(in_window, " of the latest ", config_.window(),
                        " steps were refused, as many as stability.max_in_window allows");
  }
  if (passed_over > kMostPassedOver) {
    return absl::StrCat("its refusals pass over more than ", kMostPassedOver, " batches, which no checkpoint holds");
  }
  return "";
}

Stability::Verdict Stability::Refused(int64_t step, int64_t batch, const StepFigures& figures) {
  Verdict verdict;
  verdict.finite = figures.sound();
  bool halt = false, roll_back = false;
  if (!verdict.finite) {
    const auto policy = config_.non_finite().policy();
    halt = policy == proto::NonFiniteConfig::HALT;
    roll_back = policy == proto::NonFiniteConfig::ROLLBACK;
    counts_.set_non_finite_total(counts_.non_finite_total() + 1);
    if (halt) verdict.reason = "stability.non_finite.policy is HALT";
  } else {
    const Scores scores = ScoresOf(figures);
    roll_back = config_.spike().policy() == proto::SpikeConfig::ROLLBACK;
    counts_.set_spikes_total(counts_.spikes_total() + 1);
    verdict.reason = absl::StrFormat("a spike: loss and gradient norm lie %.1f and %.1f deviations above the median",
                                     scores.loss, scores.gradient_norm);
  }
  if (!halt) {
    if (const std::string limit = LimitReached(step); !limit.empty()) {
      halt = true;
      absl::StrAppend(&verdict.reason, verdict.reason.empty() ? "" : "; ", limit);
    }
  }
  if (halt) return verdict;
  verdict.action = roll_back ? Action::kRollback : Action::kSkip;
  auto& refused = *counts_.add_refused();
  refused.set_step(step);
  refused.set_batch(batch);
  refused.set_batches(roll_back ? std::min(config_.rollback_batches(), batch) : 1);
  refused.set_cause(verdict.finite ? proto::RefusedStep::SPIKE : proto::RefusedStep::NON_FINITE);
  refused.set_rolled_back(roll_back);
  if (roll_back) {
    counts_.set_rollbacks_total(counts_.rollbacks_total() + 1);
  } else {
    counts_.set_skipped_steps_total(counts_.skipped_steps_total() + 1);
  }
  return verdict;
}

void Stability::GoBack(const proto::StabilityState& then) {
  losses_ = DetectorOf(config_, then.losses());
  gradient_norms_ = DetectorOf(config_, then.gradient_norms());
  last_score_.reset();
}

proto::StabilityState Stability::state() const {
  proto::StabilityState state = counts_;
  SetValues(losses_, *state.mutable_losses());
  SetValues(gradient_norms_, *state.mutable_gradient_norms());
  return state;
}

std::vector<int64_t> Stability::passed_over() const {
  std::vector<int64_t> batches;
  for (const proto::RefusedStep& refused : counts_.refused()) {
    for (int64_t i = 0; i < refused.batches(); ++i) batches.push_back(refused.batch() - i);
  }
  return batches;
}

void Stability::FillRecord(proto::StabilityRecord& record) const {
  record.set_non_finite_total(counts_.non_finite_total());
  record.set_spikes_total(counts_.spikes_total());
  record.set_skipped_steps_total(counts_.skipped_steps_total());
  record.set_rollbacks_total(counts_.rollbacks_total());
  if (last_score_.has_value()) record.set_spike_score(*last_score_);
}

}  // namespace isthmus
