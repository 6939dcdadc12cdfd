#include "model/measure/head_sums.h"

#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "model/measure/head_projection.h"

namespace isthmus {
namespace {

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }
double Root(double square) { return std::sqrt(std::max(square, 0.0)); }

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();
// What rounding may add to the retained energy, of itself.
constexpr double kMostRounding = 1e-3;

// Squares of fp64 below it may have lost digits, because parts of them are below the smallest numbers.
constexpr double kLeastEnergy = 1e-270;

double RoundingUnit(DType arithmetic) {
  return arithmetic == DType::kFloat64 ? std::numeric_limits<double>::epsilon() / 2
                                       : double{std::numeric_limits<float>::epsilon()} / 2;
}

double TotalEnergy(const HeadSums& sums) {
  double total = 0;
  for (const HeadPart& shard : sums.shards) total += shard.logit_gradient_energy;
  return total;
}

// Rounding moves a row of A_U by about ε times its length, in no particular direction: F = A_U P by as much times
// ‖P‖ / √rank.
bool RoundingHidesProjection(const HeadSums& sums) {
  if (sums.rank == 0) return false;
  const double epsilon = 2 * RoundingUnit(sums.arithmetic);
  const double moved =
      epsilon * epsilon * sums.update.signal_energy * sums.projector_energy / static_cast<double>(sums.rank);
  return moved > kMostRounding * kMostRounding * sums.token.retained_energy;
}

// True if squares of A_U, summed in fp32, have overflowed or lost their digits. No figure made of them holds then.
bool SquaresAreOutOfRange(const HeadSums& sums) {
  if (sums.arithmetic == DType::kFloat64 || sums.rank == 0 || TotalEnergy(sums) == 0) return false;
  const double mean = sums.update.signal_energy / (static_cast<double>(sums.tokens) * static_cast<double>(sums.width));
  return !std::isfinite(mean) || mean < double{std::numeric_limits<float>::min()};
}

// True if squares of the logit gradient vanish in fp64 or have lost their digits. No figure made of them holds then.
// Tokens that are predicted with certainty do that: their loss is below 1e-135.
bool SquaresVanish(const HeadSums& sums) { return TotalEnergy(sums) < kLeastEnergy; }

// Returns why G_∥ is not known; empty if it is known.
std::string WhyNotMeasured(const HeadSums& sums, const HeadWeightFigures& weight) {
  if (!sums.not_factored.empty()) return sums.not_factored;
  if (SquaresVanish(sums)) {
    return absl::StrFormat("with a mean loss of %.3g the squares of the logit gradient are below the range of fp64",
                           sums.token.loss);
  }
  if (SquaresAreOutOfRange(sums)) return "squares of the gradient that leaves it are beyond the range of fp32";
  const char* arithmetic = sums.arithmetic == DType::kFloat64 ? "fp64" : "fp32";
  if (RoundingHidesProjection(sums)) {
    return absl::StrFormat("its condition%s is beyond %s",
                           weight.singular_values.empty() ? std::string() : absl::StrFormat(" %.1g", weight.condition),
                           arithmetic);
  }
  const double total = TotalEnergy(sums);
  if (sums.token.retained_energy <= total * (1 + kMostRounding)) return "";
  return absl::StrFormat(
      "the norm of what it passes on, %.6g, is above that of the whole gradient, %.6g: the projection is wrong",
      std::sqrt(sums.token.retained_energy), std::sqrt(total));
}

HeadGradientFigures GradientFigures(const HeadSums& sums) {
  const double total = TotalEnergy(sums);
  // If W spans all of the vocabulary, the loss is exactly 0, not the rounding of a difference. The retained energy
  // exceeds the total by no more than WhyNotMeasured allows.
  const double kept = sums.rank == sums.vocabulary ? total : std::min(sums.token.retained_energy, total);
  const double share =
      sums.rank == kUnknownRank ? kNotMeasured : static_cast<double>(sums.rank) / static_cast<double>(sums.vocabulary);
  HeadGradientFigures figures;
  figures.logit_gradient_norm = std::sqrt(total);
  figures.retained_gradient_norm = std::sqrt(kept);
  figures.lost_gradient_norm = std::sqrt(total - kept);
  figures.visible_cosine = std::sqrt(Ratio(kept, total));
  figures.lost_energy_ratio = Ratio(total - kept, total);
  figures.lost_norm_ratio = std::sqrt(figures.lost_energy_ratio);
  figures.isotropic_lost_norm_ratio = std::sqrt(1 - share);
  figures.alignment_gain = Ratio(figures.visible_cosine, std::sqrt(share));
  figures.target_energy_share = Ratio(sums.token.target_energy, total);
  figures.retained_target_energy_share = Ratio(sums.token.retained_target_energy, kept);
  figures.target_coefficient = sums.token.target_sum;
  figures.retained_target_coefficient = sums.token.retained_target_sum;
  return figures;
}

HeadSelfTestFigures SelfTestFigures(const HeadSums::SelfTest& sums) {
  const double from_whole = std::abs(sums.retained + sums.lost - sums.energy);
  return {.sampled_lost_norm_ratio = std::sqrt(Ratio(sums.lost, sums.energy)),
          .decomposition_error = Ratio(std::max(from_whole, sums.lost_passed_on), sums.energy)};
}

HeadUpdateFigures UpdateFigures(const HeadSums& sums, double gradient_norm) {
  const HeadUpdateSums& update = sums.update;
  HeadUpdateFigures figures;
  figures.update_cosine = Ratio(update.along, gradient_norm * Root(update.square));
  figures.hidden_update_cosine = Ratio(update.hidden, gradient_norm * Root(update.through_hidden));
  figures.update_rank_bound = 2 * sums.width;
  return figures;
}

HeadSpectrumFigures SpectrumFigures(const HeadSums& sums) {
  const Matrix& gram = sums.sample_gram;
  HeadSpectrumFigures figures;
  figures.sampled_tokens = gram.rows();
  double total = gram.trace();
  figures.sampled_retained_energy_ratio = Ratio(sums.token.sampled_retained, total);
  Eigen::VectorXd eigenvalues;
  if (!sums.sample_eigenvalues.has_value()) {
    Matrix copy = gram;
    eigenvalues = Eigenvalues(TensorOf(copy));
  } else if (sums.sample_eigenvalues->empty()) {
    figures.known = false;
    return figures;
  } else {
    const std::vector<double>& earlier = *sums.sample_eigenvalues;
    eigenvalues = Eigen::Map<const Eigen::VectorXd>(earlier.data(), std::ssize(earlier));
    total = eigenvalues.sum();
  }
  const int64_t count = eigenvalues.size(), width = sums.width;
  // Eigenvalues below it are what rounding of the Gram matrix made of smaller ones.
  const double least = static_cast<double>(count) * RoundingUnit(sums.arithmetic) * eigenvalues(0);
  double kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double energy = std::max(eigenvalues(i), 0.0);
    if (energy > least) figures.singular_values.push_back(std::sqrt(energy));
    // Shares of the norm, hence squares of them of the energy.
    if (kept < 0.70 * 0.70 * total) figures.components_for_70_percent = i + 1;
    if (kept < 0.999 * 0.999 * total) figures.components_for_99_9_percent = i + 1;
    kept += energy;
    if (i < width) figures.best_rank_energy_ratio = std::min(Ratio(kept, total), 1.0);
    if (i < 2 * width) figures.best_double_rank_energy_ratio = std::min(Ratio(kept, total), 1.0);
  }
  return figures;
}

HeadWeightFigures WeightFigures(const HeadSums& sums) {
  const Eigen::VectorXd& s = sums.singular_values;
  HeadWeightFigures figures;
  figures.numerical_rank = sums.rank;
  for (const double value : s) figures.singular_values.push_back(std::ldexp(value, sums.singular_values_exponent));
  figures.row_anisotropy = AnisotropyOf(sums.head_unit_sum, sums.vocabulary - sums.zero_head_rows);
  if (sums.singular_values_rank == 0) return figures;
  const double sum = s.sum(), energy = s.squaredNorm();
  figures.condition = s(0) / s(sums.singular_values_rank - 1);
  for (Eigen::Index i = 0; i < s.size(); ++i) {
    const double p = s(i) / sum;
    if (p > 0) figures.singular_entropy += p * std::log(p * static_cast<double>(s.size()));
  }
  figures.stable_rank = energy / (s(0) * s(0));
  figures.largest_singular_share = s(0) / sum;
  const auto error = [&](int64_t rank) {
    return std::sqrt(s.tail(s.size() - std::min(rank, s.size())).squaredNorm() / energy);
  };
  const int64_t width = sums.width;
  figures.error_ratio_at_eighth = error(width / 8);
  figures.error_ratio_at_quarter = error(width / 4);
  figures.error_ratio_at_half = error(width / 2);
  return figures;
}

void LeaveOutProjection(HeadFigures& figures) {
  HeadGradientFigures& gradient = figures.gradient;
  for (double* figure : {&gradient.retained_gradient_norm, &gradient.lost_gradient_norm, &gradient.visible_cosine,
                         &gradient.lost_norm_ratio, &gradient.lost_energy_ratio, &gradient.alignment_gain,
                         &gradient.retained_target_energy_share, &gradient.retained_target_coefficient,
                         &figures.spectrum.sampled_retained_energy_ratio, &figures.self_test.sampled_lost_norm_ratio}) {
    *figure = kNotMeasured;
  }
  for (auto* parts : {&figures.shards, &figures.buckets}) {
    for (HeadPart& part : *parts) part.retained_energy = kNotMeasured;
  }
  figures.retained_ratio = Histogram(RetainedRatioBounds());
}

void LeaveOutUpdate(HeadFigures& figures) {
  figures.update.update_cosine = figures.update.hidden_update_cosine = kNotMeasured;
}

// Leaves out what is made of squares of the logit gradient, beside what LeaveOutProjection does.
void LeaveOutGradient(HeadFigures& figures) {
  LeaveOutUpdate(figures);
  HeadSpectrumFigures& spectrum = figures.spectrum;
  for (double* figure :
       {&figures.gradient.logit_gradient_norm, &figures.gradient.target_energy_share, &spectrum.best_rank_energy_ratio,
        &spectrum.best_double_rank_energy_ratio, &figures.self_test.decomposition_error}) {
    *figure = kNotMeasured;
  }
  spectrum.known = false;
  spectrum.components_for_70_percent = spectrum.components_for_99_9_percent = 0;
  spectrum.singular_values.clear();
  for (auto* parts : {&figures.shards, &figures.buckets}) {
    for (HeadPart& part : *parts) part.logit_gradient_energy = kNotMeasured;
  }
}

}  // namespace

double AnisotropyOf(const Eigen::VectorXd& unit_sum, int64_t count) {
  const auto n = static_cast<double>(count);
  return count > 1 ? (unit_sum.squaredNorm() - n) / (n * n - n) : kNotMeasured;
}

HeadFigures MakeMeasurement(const HeadSums& sums) {
  HeadFigures measurement;
  measurement.tokens = sums.tokens;
  measurement.vocabulary = sums.vocabulary;
  measurement.width = sums.width;
  measurement.loss = sums.token.loss;
  measurement.gradient = GradientFigures(sums);
  measurement.self_test = SelfTestFigures(sums.self_test);
  measurement.update = UpdateFigures(sums, measurement.gradient.logit_gradient_norm);
  measurement.spectrum = SpectrumFigures(sums);
  measurement.weight = WeightFigures(sums);
  measurement.hidden_anisotropy = AnisotropyOf(sums.hidden_unit_sum, sums.tokens - sums.zero_hidden_rows);
  const Matrix hidden = TimesPowerOfTwo(sums.sampled_hidden, -ExponentToTakeOff(sums.sampled_hidden));
  const Matrix centred = hidden.rowwise() - hidden.colwise().mean();
  measurement.hidden_centred_anisotropy = AnisotropyOf(UnitRowSum(centred), centred.rows() - ZeroRows(centred));
  measurement.retained_ratio = sums.token.retained_ratio;
  measurement.token_gradient = sums.token.token_gradient;
  measurement.shards = sums.shards;
  measurement.buckets = sums.buckets;
  measurement.not_measured = WhyNotMeasured(sums, measurement.weight);
  if (!measurement.not_measured.empty()) LeaveOutProjection(measurement);
  if (SquaresVanish(sums)) LeaveOutGradient(measurement);
  if (SquaresAreOutOfRange(sums)) LeaveOutUpdate(measurement);
  if (!sums.not_factored.empty()) measurement.self_test.decomposition_error = kNotMeasured;
  return measurement;
}

}  // namespace isthmus
