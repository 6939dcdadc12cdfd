// Controls say what G_∥ would be without a match of head and gradient. A trained head's figures are compared with them.
//
//   random_head    G as it is, projected on the column space of a random W' with W'ᵀW' = WᵀW: a random subspace of
//                  rank(W) dimensions. The mean of visible_cosine² over such heads is rank(W) / V.
//   random_hidden  W as it is. Hidden states are Gaussian rows with the mean and covariance of H, and have the same
//                  targets. G' is their logit gradient, and decomposed in turn.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_CONTROLS_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_CONTROLS_H_

#include <cstdint>
#include <limits>
#include <vector>

namespace isthmus {

// Figures are NaN where they were not measured.
struct HeadControls {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  // Over the draws. The deviation is that of one draw, √(Σ (x - mean)² / (draws - 1)).
  struct Spread {
    double mean = kNone, deviation = kNone;
  };
  struct Control {
    std::vector<double> visible_cosines;  // of each draw; empty where they were not measured
    Spread visible_cosine, lost_norm_ratio, alignment_gain;
    int64_t draws_below = 0;          // with a smaller visible cosine than the trained head's
    double deviations_above = kNone;  // (trained visible_cosine - mean) / deviation; NaN if draws are alike, too
  };
  int64_t draws = 0;
  double isotropic_visible_cosine = 0, isotropic_lost_norm_ratio = 1;  // √(rank(W) / V), √(1 - rank(W) / V)
  Control random_head, random_hidden;
};

// Sums up two draws or more, from the share of the energy of G that lies in G_∥ in each. `trained` is the trained head's
// visible cosine.
HeadControls::Control ControlOf(const std::vector<double>& shares, double trained, int64_t rank, int64_t vocabulary);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_CONTROLS_H_
