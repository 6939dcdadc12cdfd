#include "model/measure/resampled_intervals.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/parallel_for.h"
#include "runtime/philox.h"

namespace isthmus {
namespace {

using BlockRow = Eigen::RowVectorXd;

// Returns the sums of the blocks that a resample draws.
BlockRow Resampled(const Matrix& sums, int64_t resample, Eigen::RowVectorXd& times) {
  const auto count = static_cast<uint64_t>(sums.rows());
  times.setZero(sums.rows());
  for (uint64_t i = 0; i < count; i += 4) {
    const auto words = Philox::Words(0, RandomPurpose::kResample, static_cast<uint32_t>(resample), i / 4);
    for (uint64_t j = 0; j < std::min<uint64_t>(4, count - i); ++j) {
      times(static_cast<Eigen::Index>((words[j] * count) >> 32)) += 1;
    }
  }
  return times * sums;
}

// Turns sums of energies into figures.
struct ShareOfEnergy {
  int64_t rank = 0, vocabulary = 0;

  // Returns the share q that lies in G_∥; NaN without energy. A head that spans the whole vocabulary keeps all. Rounding
  // must not keep more than there is.
  double operator()(double energy, double retained) const {
    if (!(energy > 0)) return std::numeric_limits<double>::quiet_NaN();
    return rank == vocabulary ? 1 : std::clamp(retained / energy, 0.0, 1.0);
  }
  double Gain(double q) const {
    return rank > 0 ? std::sqrt(q * static_cast<double>(vocabulary) / static_cast<double>(rank)) : 0;
  }
};

double CosineOf(double q) { return std::sqrt(q); }
double LostNormOf(double q) { return std::sqrt(1 - q); }
double LostEnergyOf(double q) { return 1 - q; }

// `shares` holds q of the resamples, ascending.
template <typename Figure>
FigureInterval IntervalOf(double share, const std::vector<double>& shares, const Figure& figure) {
  std::vector<double> values(shares.size());
  std::transform(shares.begin(), shares.end(), values.begin(), figure);
  // Every figure rises with q, or falls with it.
  if (values.size() > 1 && values.front() > values.back()) std::reverse(values.begin(), values.end());
  constexpr double kTail = (1 - kConfidence) / 2;
  return {figure(share), Percentile(values, kTail), Percentile(values, 1 - kTail)};
}

HeadIntervals::Figures FiguresOf(double tokens, double share, std::vector<double> shares, const ShareOfEnergy& of) {
  shares.erase(std::remove_if(shares.begin(), shares.end(), [](double q) { return std::isnan(q); }), shares.end());
  std::sort(shares.begin(), shares.end());
  HeadIntervals::Figures figures;
  figures.tokens = static_cast<int64_t>(tokens);
  figures.resamples = static_cast<int64_t>(shares.size());
  figures.lost_norm_ratio = IntervalOf(share, shares, LostNormOf);
  figures.visible_cosine = IntervalOf(share, shares, CosineOf);
  figures.alignment_gain = IntervalOf(share, shares, [&](double q) { return of.Gain(q); });
  figures.lost_energy_ratio = IntervalOf(share, shares, LostEnergyOf);
  return figures;
}

// Returns the sum of a column over the buckets, or that of one bucket.
double ColumnOf(const BlockRow& sums, int bucket, BlockEnergies::Column column) {
  if (bucket < kFrequencyBuckets) return sums(bucket * BlockEnergies::kColumns + column);
  double sum = 0;
  for (int i = 0; i < kFrequencyBuckets; ++i) sum += ColumnOf(sums, i, column);
  return sum;
}

}  // namespace

double Percentile(absl::Span<const double> ascending, double probability) {
  if (ascending.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double place = probability * static_cast<double>(ascending.size() - 1), lower = std::floor(place);
  const auto at = static_cast<size_t>(lower);
  return std::lerp(ascending[at], ascending[std::min(at + 1, ascending.size() - 1)], place - lower);
}

HeadIntervals ResampledIntervals(const BlockEnergies& blocks, int64_t resamples, int64_t rank, int64_t vocabulary) {
  constexpr int kAll = kFrequencyBuckets;  // the place behind the buckets
  const ShareOfEnergy of{rank, vocabulary};
  const auto share = [&](const BlockRow& sums, int bucket) {
    return of(ColumnOf(sums, bucket, BlockEnergies::kEnergy), ColumnOf(sums, bucket, BlockEnergies::kRetained));
  };
  std::vector<std::vector<double>> shares(kAll + 1, std::vector<double>(static_cast<size_t>(resamples)));
  ParallelFor(resamples, 1, [&](int64_t begin, int64_t end, int) {
    Eigen::RowVectorXd times;
    for (int64_t resample = begin; resample < end; ++resample) {
      const BlockRow sums = Resampled(blocks.sums, resample, times);
      for (int bucket = 0; bucket <= kAll; ++bucket) {
        shares[static_cast<size_t>(bucket)][static_cast<size_t>(resample)] = share(sums, bucket);
      }
    }
  });
  HeadIntervals intervals;
  intervals.blocks = blocks.sums.rows();
  intervals.block_tokens = blocks.block_tokens;
  intervals.resamples = resamples;
  const BlockRow own = blocks.sums.colwise().sum();
  for (int bucket = 0; bucket <= kAll; ++bucket) {
    const auto at = static_cast<size_t>(bucket);
    (bucket < kAll ? intervals.target_buckets[at] : intervals.all) =
        FiguresOf(ColumnOf(own, bucket, BlockEnergies::kTokens), share(own, bucket), std::move(shares[at]), of);
  }
  return intervals;
}

}  // namespace isthmus
