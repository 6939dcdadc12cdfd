// The figures of the head decomposition (DESIGN 4; arXiv:2603.10145). Symbols as there: N tokens of the step, V
// vocabulary, D the width that enters the head (the rank of a head W = U E), G = ∂L/∂Z of the mean loss, G_∥
// its projection on the column space of W, A = G W, B = Gᵀ H.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/measure/histogram.h"

namespace isthmus {

// Of a set of vocabulary rows: a tensor rank's shard, or a bucket of frequency. What of it is lost does not follow from
// these two: G_∥ and G_⊥ are orthogonal over the whole vocabulary, not over a part of it, and the projection moves
// energy between parts. Over all parts each of the two sums up to the whole head's.
struct HeadPart {
  int64_t rows = 0;
  double logit_gradient_energy = 0;  // ‖G[:, rows]‖²
  double retained_energy = 0;        // ‖G_∥[:, rows]‖²; NaN where it was not measured
};

// What backpropagation through the head loses (DESIGN 4.2).
struct HeadGradientFigures {
  double logit_gradient_norm = 0;        // ‖G‖
  double retained_gradient_norm = 0;     // ‖G_∥‖
  double lost_gradient_norm = 0;         // ‖G_⊥‖, from ‖G‖² - ‖G_∥‖²
  double visible_cosine = 0;             // ‖G_∥‖ / ‖G‖
  double lost_norm_ratio = 0;            // ‖G_⊥‖ / ‖G‖
  double lost_energy_ratio = 0;          // its square
  double isotropic_lost_norm_ratio = 0;  // sqrt(1 - rank(W)/V): a head in random position
  double alignment_gain = 0;             // visible_cosine / sqrt(rank(W)/V)
  // How much of the energy lies in the entries of the tokens' own targets, before and after the projection; the rest
  // lies in all other tokens of the vocabulary.
  double target_energy_share = 0;
  double retained_target_energy_share = 0;
  // Mean over tokens of N·G[n, y_n] = p_y - 1, and of N·G_∥[n, y_n].
  double target_coefficient = 0;
  double retained_target_coefficient = 0;
};

// Tests c² + r² = 1 over sampled tokens. r is not derived from c: the lost part is measured as ‖G - G_∥‖. The equation
// also holds for a projection on too small a space. That shows in what the head would pass on of G - G_∥: nothing if
// the projection is right.
struct HeadSelfTestFigures {
  double sampled_lost_norm_ratio = 0;  // ‖G - G_∥‖ / ‖G‖; NaN if not measured
  // The larger of |c² + r² - 1| and ‖(G - G_∥) W‖² / (s² ‖G‖²), where s is at least W's largest singular value. NaN if
  // there is no G_∥.
  double decomposition_error = 0;
};

// What a gradient step does to the logits (DESIGN 4.3). For a plain head the step changes H and W; for one that is W = U E
// H, U and E, as training does.
struct HeadUpdateFigures {
  double update_cosine = 0;         // of the whole first-order change of the logits and -G
  double hidden_update_cosine = 0;  // of the part through the hidden states, A Wᵀ
  int64_t update_rank_bound = 0;    // 2 D
};

// The spectrum of G over sampled tokens: every k-th of the step.
struct HeadSpectrumFigures {
  int64_t sampled_tokens = 0;
  // The training step of all figures except `sampled_tokens` and `sampled_retained_energy_ratio`; 0 outside of
  // training.
  int64_t step = 0;
  bool known = true;                         // false: those figures are zero, and singular_values is empty
  double best_rank_energy_ratio = 0;         // kept by the best matrix of rank D (Eckart-Young)
  double best_double_rank_energy_ratio = 0;  // of rank 2 D
  double sampled_retained_energy_ratio = 0;  // kept by the head, of the same tokens
  int64_t components_for_70_percent = 0;     // singular values that together have that much of the norm
  int64_t components_for_99_9_percent = 0;
  // Of G over the sampled tokens, descending: those above sqrt(n ε) of the largest, ε the rounding unit of what S was
  // computed in. As roots of eigenvalues smaller ones are not known.
  std::vector<double> singular_values;
};

inline constexpr int64_t kUnknownRank = -1;

// The head itself: W, or the product U E. Singular values s_1 >= s_2 >= …, min(V, D) of them; none, and zero what
// follows from them, where they are not known yet.
struct HeadWeightFigures {
  int64_t numerical_rank = 0;         // kUnknownRank if the head could not be factored within a step
  double row_anisotropy = 0;          // mean cosine of two rows of the vocabulary-sized factor
  int64_t step = 0;                   // of training, whose head the following are of; 0 outside of it
  double condition = 0;               // s_1 / s_rank
  double singular_entropy = 0;        // KL(p ‖ uniform), p_i = s_i / Σs: 0 is flat (arXiv:2404.07647)
  double stable_rank = 0;             // ‖W‖² / s_1²
  double largest_singular_share = 0;  // s_1 / Σs
  // W-error(d) = (Σ_{i>d} s_i²)^½ / ‖W‖ at an eighth, a quarter and a half of D.
  double error_ratio_at_eighth = 0, error_ratio_at_quarter = 0, error_ratio_at_half = 0;
  std::vector<double> singular_values;
};

struct HeadFigures {
  // Empty if everything was measured; otherwise the reason. In that case the figures of `gradient` that need G_∥, and
  // those of shards, buckets and sampled tokens, are NaN, and `retained_ratio` is empty.
  std::string not_measured;
  bool linear = true;  // false: of a head that is not linear nothing is measured, and all figures are zero
  int64_t tokens = 0, vocabulary = 0, width = 0;
  double loss = 0;
  HeadGradientFigures gradient;
  HeadSelfTestFigures self_test;
  HeadUpdateFigures update;
  HeadSpectrumFigures spectrum;
  HeadWeightFigures weight;
  double hidden_anisotropy = 0;                     // mean cosine of two tokens' hidden states (arXiv:2401.12143)
  double hidden_centred_anisotropy = 0;             // of the sampled tokens' after their mean has been subtracted
  Histogram retained_ratio{RetainedRatioBounds()};  // over tokens
  Histogram token_gradient{TokenGradientBounds()};
  std::vector<HeadPart> shards;   // by tensor rank
  std::vector<HeadPart> buckets;  // by frequency, kBucketPercent
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_
