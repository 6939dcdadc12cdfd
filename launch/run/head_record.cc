#include "launch/run/head_record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "model/future_schedule.h"
#include "model/measure/frequency_buckets.h"

namespace isthmus {
namespace {

// A part of the vocabulary may keep a little less than nothing: the rest of it is a difference.
double NormOfPart(double energy) { return std::sqrt(std::max(energy, 0.0)); }

template <typename Record>
void FillPart(const HeadPart& part, const HeadFigures& head, Record& record) {
  const auto share = [](double energy, double norm) { return norm > 0 ? energy / (norm * norm) : 0; };
  if (!head.scalars.has_logit_gradient_norm()) return;  // squares are below fp64
  record.set_logit_gradient_norm(NormOfPart(part.logit_gradient_energy));
  record.set_energy_share(share(part.logit_gradient_energy, head.scalars.logit_gradient_norm()));
  if (!head.not_measured.empty()) return;
  record.set_retained_gradient_norm(NormOfPart(part.retained_energy));
  record.set_retained_energy_share(share(part.retained_energy, head.scalars.retained_gradient_norm()));
}

void FillHistogram(const Histogram& histogram, proto::Histogram& record) {
  record.mutable_bounds()->Add(histogram.bounds.begin(), histogram.bounds.end());
  record.mutable_counts()->Add(histogram.counts.begin(), histogram.counts.end());
  record.set_sum(histogram.sum);
}

// Picks some forty of any number of values.
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

// As many tokens as the head is wide are a matrix of its rank. The best matrix of that rank keeps all of it.
void LeaveOutTrivialFigures(int64_t width, proto::HeadRecord& record) {
  if (record.sampled_tokens() <= width) {
    record.clear_best_rank_energy_ratio();
    record.clear_components_for_70_percent();
    record.clear_components_for_99_9_percent();
  }
  if (record.sampled_tokens() <= 2 * width) record.clear_best_double_rank_energy_ratio();
}

}  // namespace

void FillHeadRecord(const HeadFigures& head, proto::HeadRecord& record) {
  if (!head.linear) return;
  record = head.scalars;
  LeaveOutTrivialFigures(head.width, record);
  if (head.not_measured.empty()) FillHistogram(head.retained_ratio, *record.mutable_token_retained_ratio());
  FillHistogram(head.token_gradient, *record.mutable_token_gradient_norm());
  FillSpectrum(head.sampled_singular_values, *record.mutable_sampled_singular_values());
  FillSpectrum(head.singular_values, *record.mutable_singular_values());
  for (size_t i = 0; i < head.shards.size(); ++i) {
    auto& shard = *record.add_shards();
    shard.set_tp_rank(static_cast<int>(i));
    FillPart(head.shards[i], head, shard);
  }
  for (size_t i = 0; i < head.buckets.size() && i < kBucketNames.size(); ++i) {
    auto& bucket = *record.add_buckets();
    bucket.set_bucket(kBucketNames[i]);
    bucket.set_rows(head.buckets[i].rows);
    FillPart(head.buckets[i], head, bucket);
  }
}

void FillHeadLosses(const HeadLossValues& losses, proto::TelemetryRecord& record) {
  if (losses.orthogonality.has_value()) record.mutable_head_loss()->set_orthogonality(*losses.orthogonality);
  if (losses.alignment.has_value()) record.mutable_head_loss()->set_alignment(*losses.alignment);
  if (losses.z_loss.has_value()) record.mutable_head_loss()->set_z_loss(*losses.z_loss);
  using SetFuture = void (proto::HeadLossRecord::*)(double);
  using Record = proto::HeadLossRecord;
  constexpr std::array<SetFuture, kMostFutureOffsets> kSetters = {
      &Record::set_future_1, &Record::set_future_2, &Record::set_future_3, &Record::set_future_4,
      &Record::set_future_5, &Record::set_future_6, &Record::set_future_7, &Record::set_future_8};
  for (size_t i = 0; i < losses.future.size(); ++i) {
    if (losses.future[i].has_value()) (record.mutable_head_loss()->*kSetters[i])(*losses.future[i]);
  }
}

void FillVisibleShares(const VisibleShares& shares, proto::VisibleShareRecord& record) {
  record.set_tokens(shares.tokens);
  if (shares.logits.whole > 0) record.set_logit_cosine(shares.logits.cosine());
  if (shares.log_probabilities.whole > 0) record.set_log_probability_cosine(shares.log_probabilities.cosine());
}

void FillLayerRecords(absl::Span<const LayerFigures> layers, proto::TelemetryRecord& record) {
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    const LayerFigures& figures = layers[layer];
    auto& entry = *record.add_layers();
    entry.set_layer(static_cast<int>(layer));
    entry.set_gradient_norm(figures.gradient_norm);
    if (std::isfinite(figures.anisotropy)) entry.set_hidden_anisotropy(figures.anisotropy);
    if (std::isfinite(figures.centred_anisotropy)) entry.set_hidden_centred_anisotropy(figures.centred_anisotropy);
  }
}

}  // namespace isthmus
