#include "model/measure/head_sums.h"

#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "model/algebra/symmetric.h"
#include "proto/telemetry.pb.h"

namespace isthmus {
namespace {

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }
double Root(double square) { return std::sqrt(std::max(square, 0.0)); }

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();
// Rounding may add at most this share of the retained energy.
constexpr double kMostRounding = 1e-3;

double RoundingUnit(DType arithmetic) {
  return arithmetic == DType::kFloat64 ? std::numeric_limits<double>::epsilon() / 2
                                       : double{std::numeric_limits<float>::epsilon()} / 2;
}

double TotalEnergy(const HeadSums& sums) {
  double total = 0;
  for (const HeadPart& shard : sums.shards) total += shard.logit_gradient_energy;
  return total;
}

// Rounding moves a row of A_U by about ε times its length, in no particular direction. F = A_U P moves by as much times
// ‖P‖ / √rank.
bool RoundingHidesProjection(const HeadSums& sums) {
  if (sums.rank == 0) return false;
  const double epsilon = 2 * RoundingUnit(sums.arithmetic);
  const double moved =
      epsilon * epsilon * sums.update.signal_energy * sums.projector_energy / static_cast<double>(sums.rank);
  return moved > kMostRounding * kMostRounding * sums.token.retained_energy;
}

// Returns true if squares of A_U, summed in fp32, have overflowed or lost their digits. No figure made of them holds
// then.
bool SquaresAreOutOfRange(const HeadSums& sums) {
  if (sums.arithmetic == DType::kFloat64 || sums.rank == 0 || TotalEnergy(sums) == 0) return false;
  const double mean = sums.update.signal_energy / (static_cast<double>(sums.tokens) * static_cast<double>(sums.width));
  return !std::isfinite(mean) || mean < double{std::numeric_limits<float>::min()};
}

// Returns true if squares of the logit gradient vanish in fp64 or have lost their digits. No figure made of them holds
// then. Tokens that are predicted with certainty do that: their loss is below 1e-135.
bool SquaresVanish(const HeadSums& sums) { return TotalEnergy(sums) < kLeastEnergy; }

// Returns why G_∥ is not known; empty if it is known. `scalars` contain the head's condition, if that is known.
std::string WhyNotMeasured(const HeadSums& sums, const proto::HeadRecord& scalars) {
  if (!sums.not_factored.empty()) return sums.not_factored;
  if (SquaresVanish(sums)) {
    return absl::StrFormat("with a mean loss of %.3g the squares of the logit gradient are below the range of fp64",
                           sums.token.loss);
  }
  if (SquaresAreOutOfRange(sums)) return "squares of the gradient that leaves it are beyond the range of fp32";
  const char* arithmetic = sums.arithmetic == DType::kFloat64 ? "fp64" : "fp32";
  if (RoundingHidesProjection(sums)) {
    return absl::StrFormat("its condition%s is beyond %s",
                           scalars.has_condition() ? absl::StrFormat(" %.1g", scalars.condition()) : std::string(),
                           arithmetic);
  }
  const double total = TotalEnergy(sums);
  if (sums.token.retained_energy <= total * (1 + kMostRounding)) return "";
  return absl::StrFormat(
      "the norm of what it passes on, %.6g, is above that of the whole gradient, %.6g: the projection is wrong",
      std::sqrt(sums.token.retained_energy), std::sqrt(total));
}

// Sets a figure by the given setter if it is finite. A mean over fewer than two rows is not; figures made of squares
// beyond fp32 may not be.
void SetFinite(double figure, void (proto::HeadRecord::*set)(double), proto::HeadRecord& scalars) {
  if (std::isfinite(figure)) (scalars.*set)(figure);
}

// Adds what is known of G without its projection. Symbols are those of model/measure/head_figures.h.
void AddGradientFigures(const HeadSums& sums, proto::HeadRecord& scalars) {
  if (sums.rank != kUnknownRank) {
    const double share = static_cast<double>(sums.rank) / static_cast<double>(sums.vocabulary);
    scalars.set_isotropic_lost_norm_ratio(std::sqrt(1 - share));  // sqrt(1 - rank(W)/V): a head in random position
  }
  scalars.set_target_coefficient(sums.token.target_sum);  // mean over tokens of N·G[n, y_n] = p_y - 1
  const double total = TotalEnergy(sums);
  if (SquaresVanish(sums) || !std::isfinite(total)) return;
  scalars.set_logit_gradient_norm(std::sqrt(total));  // ‖G‖
  // This share of the energy lies in the entries of the tokens' own targets. The rest lies in all other tokens of the
  // vocabulary.
  scalars.set_target_energy_share(Ratio(sums.token.target_energy, total));
}

// Adds how much of G backpropagation through the head loses (DESIGN 4.2), where G_∥ is known.
void AddProjectionFigures(const HeadSums& sums, HeadFigures& figures) {
  const double total = TotalEnergy(sums);
  // If W spans all of the vocabulary, the loss is exactly 0, not the rounding of a difference. The retained energy
  // exceeds the total by no more than WhyNotMeasured allows.
  const double kept = sums.rank == sums.vocabulary ? total : std::min(sums.token.retained_energy, total);
  const double share = static_cast<double>(sums.rank) / static_cast<double>(sums.vocabulary);
  const double visible_cosine = std::sqrt(Ratio(kept, total)), lost_energy_ratio = Ratio(total - kept, total);
  proto::HeadRecord& scalars = figures.scalars;
  scalars.set_retained_gradient_norm(std::sqrt(kept));      // ‖G_∥‖
  scalars.set_lost_gradient_norm(std::sqrt(total - kept));  // ‖G_⊥‖, from ‖G‖² - ‖G_∥‖²
  scalars.set_visible_cosine(visible_cosine);               // ‖G_∥‖ / ‖G‖
  scalars.set_lost_energy_ratio(lost_energy_ratio);
  scalars.set_lost_norm_ratio(std::sqrt(lost_energy_ratio));            // ‖G_⊥‖ / ‖G‖
  scalars.set_alignment_gain(Ratio(visible_cosine, std::sqrt(share)));  // visible_cosine / sqrt(rank(W)/V)
  // This is the cosine of G_∥ and A Wᵀ = G_∥ W Wᵀ, because <A Wᵀ, G> = <A Wᵀ, G_∥>.
  if (scalars.has_hidden_update_cosine()) {
    scalars.set_conditioning_cosine(std::min(Ratio(scalars.hidden_update_cosine(), visible_cosine), 1.0));
  }
  // This is the same share after the projection as target_energy_share is before it.
  scalars.set_retained_target_energy_share(Ratio(sums.token.retained_target_energy, kept));
  scalars.set_retained_target_coefficient(sums.token.retained_target_sum);  // mean over tokens of N·G_∥[n, y_n]
  // The head keeps this share of the sampled tokens' energy.
  scalars.set_sampled_retained_energy_ratio(Ratio(sums.token.sampled_retained, sums.sample_gram.trace()));
  scalars.set_sampled_lost_norm_ratio(std::sqrt(Ratio(sums.self_test.lost, sums.self_test.energy)));  // ‖G - G_∥‖ / ‖G‖
  figures.retained_ratio = sums.token.retained_ratio;
}

// Tests c² + r² = 1 over sampled tokens. r is not derived from c: the lost part is measured as ‖G - G_∥‖. The equation
// also holds for a projection on too small a space. That shows in what the head would pass on of G - G_∥: nothing if
// the projection is right. So the error is the larger of |c² + r² - 1| and ‖(G - G_∥) W‖² / (s² ‖G‖²), where s is at
// least W's largest singular value. It shows a wrong projection even where the projection's own figures are left out.
void AddDecompositionError(const HeadSums& sums, proto::HeadRecord& scalars) {
  if (!sums.not_factored.empty() || SquaresVanish(sums)) return;  // there is no G_∥, or no energy
  const HeadSums::SelfTest& test = sums.self_test;
  const double from_whole = std::abs(test.retained + test.lost - test.energy);
  SetFinite(Ratio(std::max(from_whole, test.lost_passed_on), test.energy), &proto::HeadRecord::set_decomposition_error,
            scalars);
}

// A gradient step changes the logits (DESIGN 4.3). For a plain head the step changes H and W. For a head W = U E it
// changes H, U and E, as training does.
void AddUpdateFigures(const HeadSums& sums, proto::HeadRecord& scalars) {
  scalars.set_update_rank_bound(2 * sums.width);  // 2 D
  if (SquaresVanish(sums) || SquaresAreOutOfRange(sums)) return;
  const HeadUpdateSums& update = sums.update;
  const auto norm = [](double energy, int exponent) { return std::ldexp(Root(energy), exponent / 2); };
  const TensorScales::UpdateWeights& weights = sums.update_weights;
  SetFinite(norm(update.hidden, weights.hidden_exponent), &proto::HeadRecord::set_hidden_gradient_norm,
            scalars);  // ‖A‖
  SetFinite(std::hypot(norm(update.rows, weights.head_exponent), norm(update.down, weights.down_exponent)),
            &proto::HeadRecord::set_gradient_norm, scalars);  // ‖B‖
  const double gradient_norm = std::sqrt(TotalEnergy(sums));
  // This is the cosine of the whole first-order change of the logits and -G.
  SetFinite(Ratio(update.along, gradient_norm * Root(update.square)), &proto::HeadRecord::set_update_cosine, scalars);
  // This is the cosine of its part through the hidden states, A Wᵀ, and -G.
  SetFinite(Ratio(update.hidden, gradient_norm * Root(update.through_hidden)),
            &proto::HeadRecord::set_hidden_update_cosine, scalars);
}

// Adds the spectrum of G over sampled tokens: every k-th of the step. Figures that follow from it are absent if it is
// not known yet. It may be that of an earlier step (sample_step).
void AddSampleFigures(const HeadSums& sums, HeadFigures& figures) {
  const Matrix& gram = sums.sample_gram;
  proto::HeadRecord& scalars = figures.scalars;
  scalars.set_sampled_tokens(gram.rows());
  if (SquaresVanish(sums)) return;
  double total = gram.trace();
  Eigen::VectorXd eigenvalues;
  if (!sums.sample_eigenvalues.has_value()) {
    Matrix copy = gram;
    eigenvalues = Eigenvalues(TensorOf(copy));
  } else if (sums.sample_eigenvalues->empty()) {
    return;  // none are known yet
  } else {
    const std::vector<double>& earlier = *sums.sample_eigenvalues;
    eigenvalues = Eigen::Map<const Eigen::VectorXd>(earlier.data(), std::ssize(earlier));
    total = eigenvalues.sum();
  }
  const int64_t count = eigenvalues.size(), width = sums.width;
  // Eigenvalues below this are rounding errors of smaller ones.
  const double least = static_cast<double>(count) * RoundingUnit(sums.arithmetic) * eigenvalues(0);
  double kept = 0, best = 0, best_double = 0;
  int64_t for_70_percent = 0, for_99_9_percent = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double energy = std::max(eigenvalues(i), 0.0);
    if (energy > least) figures.sampled_singular_values.push_back(std::sqrt(energy));
    // These are shares of the norm, hence their squares are shares of the energy.
    if (kept < 0.70 * 0.70 * total) for_70_percent = i + 1;
    if (kept < 0.999 * 0.999 * total) for_99_9_percent = i + 1;
    kept += energy;
    if (i < width) best = std::min(Ratio(kept, total), 1.0);
    if (i < 2 * width) best_double = std::min(Ratio(kept, total), 1.0);
  }
  scalars.set_best_rank_energy_ratio(best);                // kept by the best matrix of rank D (Eckart-Young)
  scalars.set_best_double_rank_energy_ratio(best_double);  // of rank 2 D
  scalars.set_components_for_70_percent(for_70_percent);   // singular values that together have that much of the norm
  scalars.set_components_for_99_9_percent(for_99_9_percent);
  if (sums.sample_step > 0) scalars.set_sampled_singular_values_step(sums.sample_step);
}

// Adds figures of the head itself: W, or the product U E. Those that follow from its singular values are absent if the
// values are not known yet, and zero for a head of zeros.
void AddWeightFigures(const HeadSums& sums, HeadFigures& figures) {
  proto::HeadRecord& scalars = figures.scalars;
  if (sums.rank != kUnknownRank) scalars.set_numerical_rank(sums.rank);
  // This is the mean cosine of two rows of the vocabulary-sized factor.
  SetFinite(AnisotropyOf(sums.head_unit_sum, sums.vocabulary - sums.zero_head_rows),
            &proto::HeadRecord::set_row_anisotropy, scalars);
  const Eigen::VectorXd& s = sums.singular_values;
  if (s.size() == 0) return;
  for (const double value : s) figures.singular_values.push_back(std::ldexp(value, sums.singular_values_exponent));
  if (sums.singular_values_step > 0) scalars.set_singular_values_step(sums.singular_values_step);
  const int64_t rank = sums.singular_values_rank;
  const auto unless_zero = [&](double figure) { return rank == 0 ? 0 : figure; };
  const double sum = s.sum(), energy = s.squaredNorm();
  double entropy = 0;  // KL(p ‖ uniform), p_i = s_i / Σs: 0 is flat (arXiv:2404.07647)
  for (Eigen::Index i = 0; i < s.size(); ++i) {
    const double p = s(i) / sum;
    if (p > 0) entropy += p * std::log(p * static_cast<double>(s.size()));
  }
  // It is W-error(d) = (Σ_{i>d} s_i²)^½ / ‖W‖ at an eighth, a quarter and a half of D.
  const auto error = [&](int64_t first) {
    return unless_zero(std::sqrt(s.tail(s.size() - std::min(first, s.size())).squaredNorm() / energy));
  };
  // It is s_1 / s_rank; infinite if rounding leaves nothing of s_rank.
  scalars.set_condition(unless_zero(s(0) / s(std::max<int64_t>(rank, 1) - 1)));
  scalars.set_singular_entropy(unless_zero(entropy));
  scalars.set_stable_rank(unless_zero(energy / (s(0) * s(0))));  // ‖W‖² / s_1²
  scalars.set_largest_singular_share(unless_zero(s(0) / sum));   // s_1 / Σs
  scalars.set_error_ratio_at_eighth(error(sums.width / 8));
  scalars.set_error_ratio_at_quarter(error(sums.width / 4));
  scalars.set_error_ratio_at_half(error(sums.width / 2));
}

void AddHiddenFigures(const HeadSums& sums, proto::HeadRecord& scalars) {
  // This is the mean cosine of two tokens' hidden states (arXiv:2401.12143).
  SetFinite(AnisotropyOf(sums.hidden_unit_sum, sums.tokens - sums.zero_hidden_rows),
            &proto::HeadRecord::set_hidden_anisotropy, scalars);
  // This is the same for the sampled tokens' after their mean has been subtracted.
  const Matrix hidden = TimesPowerOfTwo(sums.sampled_hidden, -ExponentToTakeOff(sums.sampled_hidden));
  const Matrix centred = hidden.rowwise() - hidden.colwise().mean();
  SetFinite(AnisotropyOf(UnitRowSum(centred), centred.rows() - ZeroRows(centred)),
            &proto::HeadRecord::set_hidden_centred_anisotropy, scalars);
}

void AddPartFigures(const HeadSums& sums, HeadFigures& figures) {
  figures.shards = sums.shards;
  figures.buckets = sums.buckets;
  const bool vanish = SquaresVanish(sums);
  for (auto* parts : {&figures.shards, &figures.buckets}) {
    for (HeadPart& part : *parts) {
      if (!figures.not_measured.empty()) part.retained_energy = kNotMeasured;
      if (vanish) part.logit_gradient_energy = kNotMeasured;
    }
  }
}

}  // namespace

double MeanCosine(double squared_norm, int64_t count) {
  const auto n = static_cast<double>(count);
  return count > 1 ? (squared_norm - n) / (n * n - n) : kNotMeasured;
}

double AnisotropyOf(const Eigen::VectorXd& unit_sum, int64_t count) {
  return MeanCosine(unit_sum.squaredNorm(), count);
}

HeadFigures MakeMeasurement(const HeadSums& sums) {
  HeadFigures figures;
  figures.tokens = sums.tokens;
  figures.vocabulary = sums.vocabulary;
  figures.width = sums.width;
  figures.loss = sums.token.loss;
  figures.token_gradient = sums.token.token_gradient;
  AddWeightFigures(sums, figures);
  AddHiddenFigures(sums, figures.scalars);
  AddGradientFigures(sums, figures.scalars);
  AddUpdateFigures(sums, figures.scalars);
  AddSampleFigures(sums, figures);
  AddDecompositionError(sums, figures.scalars);
  figures.not_measured = WhyNotMeasured(sums, figures.scalars);
  if (figures.not_measured.empty()) AddProjectionFigures(sums, figures);
  AddPartFigures(sums, figures);
  return figures;
}

}  // namespace isthmus
