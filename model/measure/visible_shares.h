// How much of each token's gradient a change of its hidden state can follow, for heads of any kind.
#ifndef ISTHMUS_MODEL_MEASURE_VISIBLE_SHARES_H_
#define ISTHMUS_MODEL_MEASURE_VISIBLE_SHARES_H_

#include <cmath>
#include <cstdint>

namespace isthmus {

// The sums are over tokens. Token n has a gradient g_n by some outputs, whose Jacobian by the token's hidden state is
// J_n. P_n is the orthogonal projector on the column space of J_n.
struct VisibleShares {
  struct Energies {
    double whole = 0;    // Σ ‖g_n‖²
    double visible = 0;  // Σ ‖P_n g_n‖²
    // Returns √(visible / whole), the cosine of the stacked gradients and their projections. NaN without a gradient.
    double cosine() const { return std::sqrt(visible / whole); }
  };
  int64_t tokens = 0;
  Energies logits;             // by the logits that the head's loss is computed from
  Energies log_probabilities;  // p − y by log P(v | h) of the vocabulary: the same for every head
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_VISIBLE_SHARES_H_
