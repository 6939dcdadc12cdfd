#include "launch/run/head_record.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <vector>

namespace isthmus {
namespace {

// A part of the vocabulary may keep a little less than nothing: the rest of it is a difference.
double Root(double energy) { return std::sqrt(std::max(energy, 0.0)); }

template <typename Record>
void FillPart(const HeadPart& part, const HeadFigures& head, Record& record) {
  const auto share = [](double energy, double norm) { return norm > 0 ? energy / (norm * norm) : 0; };
  if (!std::isfinite(head.gradient.logit_gradient_norm)) return;
  record.set_logit_gradient_norm(Root(part.logit_gradient_energy));
  record.set_energy_share(share(part.logit_gradient_energy, head.gradient.logit_gradient_norm));
  if (!head.not_measured.empty()) return;
  record.set_retained_gradient_norm(Root(part.retained_energy));
  record.set_retained_energy_share(share(part.retained_energy, head.gradient.retained_gradient_norm));
}

void FillHistogram(const Histogram& histogram, proto::Histogram& record) {
  record.mutable_bounds()->Add(histogram.bounds.begin(), histogram.bounds.end());
  record.mutable_counts()->Add(histogram.counts.begin(), histogram.counts.end());
  record.set_sum(histogram.sum);
}

// Some forty of any number of values.
template <typename Records>
void FillSpectrum(const std::vector<double>& values, Records& records) {
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t index = 1; index <= count;) {
    auto& record = *records.Add();
    record.set_index(index);
    record.set_value(values[static_cast<size_t>(index - 1)]);
    if (index == count) return;
    index = std::min(std::max(index + 1, index * 5 / 4), count);
  }
}

void FillGradient(const HeadGradientFigures& gradient, proto::HeadRecord& record) {
  // The norm is missing where squares are below fp64.
  if (std::isfinite(gradient.logit_gradient_norm)) {
    record.set_logit_gradient_norm(gradient.logit_gradient_norm);
    record.set_target_energy_share(gradient.target_energy_share);
  }
  if (std::isfinite(gradient.isotropic_lost_norm_ratio)) {
    record.set_isotropic_lost_norm_ratio(gradient.isotropic_lost_norm_ratio);
  }
  record.set_target_coefficient(gradient.target_coefficient);
}

// What needs G_∥.
void FillProjection(const HeadFigures& head, proto::HeadRecord& record) {
  const HeadGradientFigures& gradient = head.gradient;
  record.set_retained_gradient_norm(gradient.retained_gradient_norm);
  record.set_lost_gradient_norm(gradient.lost_gradient_norm);
  record.set_visible_cosine(gradient.visible_cosine);
  record.set_lost_norm_ratio(gradient.lost_norm_ratio);
  record.set_lost_energy_ratio(gradient.lost_energy_ratio);
  record.set_alignment_gain(gradient.alignment_gain);
  record.set_retained_target_energy_share(gradient.retained_target_energy_share);
  record.set_retained_target_coefficient(gradient.retained_target_coefficient);
  record.set_sampled_retained_energy_ratio(head.spectrum.sampled_retained_energy_ratio);
  record.set_sampled_lost_norm_ratio(head.self_test.sampled_lost_norm_ratio);
  FillHistogram(head.retained_ratio, *record.mutable_token_retained_ratio());
}

void FillSample(const HeadSpectrumFigures& spectrum, int64_t width, proto::HeadRecord& record) {
  record.set_sampled_tokens(spectrum.sampled_tokens);
  if (!spectrum.known) return;
  if (spectrum.step > 0) record.set_sampled_singular_values_step(spectrum.step);
  if (spectrum.sampled_tokens > width) {
    record.set_best_rank_energy_ratio(spectrum.best_rank_energy_ratio);
    record.set_components_for_70_percent(spectrum.components_for_70_percent);
    record.set_components_for_99_9_percent(spectrum.components_for_99_9_percent);
  }
  if (spectrum.sampled_tokens > 2 * width) {
    record.set_best_double_rank_energy_ratio(spectrum.best_double_rank_energy_ratio);
  }
  FillSpectrum(spectrum.singular_values, *record.mutable_sampled_singular_values());
}

void FillWeight(const HeadWeightFigures& weight, proto::HeadRecord& record) {
  if (weight.numerical_rank != kUnknownRank) record.set_numerical_rank(weight.numerical_rank);
  if (std::isfinite(weight.row_anisotropy)) record.set_row_anisotropy(weight.row_anisotropy);
  if (weight.singular_values.empty()) return;
  record.set_singular_values_step(weight.step);
  record.set_condition(weight.condition);
  record.set_singular_entropy(weight.singular_entropy);
  record.set_stable_rank(weight.stable_rank);
  record.set_largest_singular_share(weight.largest_singular_share);
  record.set_error_ratio_at_eighth(weight.error_ratio_at_eighth);
  record.set_error_ratio_at_quarter(weight.error_ratio_at_quarter);
  record.set_error_ratio_at_half(weight.error_ratio_at_half);
  FillSpectrum(weight.singular_values, *record.mutable_singular_values());
}

}  // namespace

void FillHeadRecord(const HeadFigures& head, proto::HeadRecord& record) {
  if (!head.linear) return;
  FillGradient(head.gradient, record);
  if (head.not_measured.empty()) FillProjection(head, record);
  // This figure shows a wrong projection, even where the projection's own figures are left out.
  const double error = head.self_test.decomposition_error;
  if (std::isfinite(error)) record.set_decomposition_error(error);
  // The cosines are missing where the squares are beyond fp32.
  if (std::isfinite(head.update.update_cosine)) record.set_update_cosine(head.update.update_cosine);
  if (std::isfinite(head.update.hidden_update_cosine)) {
    record.set_hidden_update_cosine(head.update.hidden_update_cosine);
  }
  record.set_update_rank_bound(head.update.update_rank_bound);
  FillSample(head.spectrum, head.width, record);
  FillWeight(head.weight, record);
  if (std::isfinite(head.hidden_anisotropy)) record.set_hidden_anisotropy(head.hidden_anisotropy);
  if (std::isfinite(head.hidden_centred_anisotropy)) {
    record.set_hidden_centred_anisotropy(head.hidden_centred_anisotropy);
  }
  FillHistogram(head.token_gradient, *record.mutable_token_gradient_norm());
  for (size_t i = 0; i < head.shards.size(); ++i) {
    auto& shard = *record.add_shards();
    shard.set_tp_rank(static_cast<int>(i));
    FillPart(head.shards[i], head, shard);
  }
  for (size_t i = 0; i < head.buckets.size() && i < std::size(kBucketNames); ++i) {
    auto& bucket = *record.add_buckets();
    bucket.set_bucket(kBucketNames[i]);
    bucket.set_rows(head.buckets[i].rows);
    FillPart(head.buckets[i], head, bucket);
  }
}

void FillLayerRecords(absl::Span<const double> norms, proto::TelemetryRecord& record) {
  for (size_t layer = 0; layer < norms.size(); ++layer) {
    auto& entry = *record.add_layers();
    entry.set_layer(static_cast<int>(layer));
    entry.set_gradient_norm(norms[layer]);
  }
}

}  // namespace isthmus
