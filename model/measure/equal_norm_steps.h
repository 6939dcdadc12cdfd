// These are the losses after steps of equal norm along four directions in the space of logits: how much of a step's
// worth lies in its direction alone (arXiv:2603.10145). A step of size s moves the n sampled tokens' logits Z by
//
//   Z' = Z - ε X / ‖X‖,   ε = s √n,   ‖X‖ the Frobenius norm over these tokens,
//
// so that s is the root mean square of the norms by which single tokens' logits move. G [n, V] is these tokens' logit
// gradient, W the head (or the product W = U E), and D the width that enters it (or U). X is
//
//   full       G
//   visible    G_∥ = G W M⁺ Wᵀ, M = WᵀW: what the head can reach
//   hidden     A Wᵀ = G W Wᵀ: what a gradient step on the hidden states does to first order
//   best_rank  the best approximation of G by a rank of 2 D (Eckart-Young), which bounds any step on H and W. It is G
//              itself if there are no more than 2 D tokens, or no more than 2 D rows in the vocabulary.
#ifndef ISTHMUS_MODEL_MEASURE_EQUAL_NORM_STEPS_H_
#define ISTHMUS_MODEL_MEASURE_EQUAL_NORM_STEPS_H_

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace isthmus {

// The sizes s reach from where the loss falls in proportion to where it rises again. In the quickstart's model that is
// at 100 along `best_rank` and at 300 along `hidden`. Along G and G_∥ it falls to the end, to less than 1e-4.
inline constexpr std::array<double, 11> kStepSizes = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000};

enum StepDirection { kFullStep, kVisibleStep, kHiddenStep, kBestRankStep, kStepDirections };
inline constexpr std::array<const char*, kStepDirections> kStepDirectionNames = {"full", "visible", "hidden",
                                                                                 "best_rank"};

struct EqualNormSteps {
  struct Along {
    std::string not_measured;                        // why there are no losses; empty if there are
    std::array<double, kStepSizes.size()> losses{};  // mean over the tokens after each size, in nats

    // Returns the index of the lowest loss, of the smallest size if several are alike. There is none without losses
    // that are finite.
    std::optional<size_t> Best() const {
      std::optional<size_t> best;
      if (!not_measured.empty()) return best;
      for (size_t i = 0; i < losses.size(); ++i) {
        if (std::isfinite(losses[i]) && (!best.has_value() || losses[i] < losses[*best])) best = i;
      }
      return best;
    }
  };

  int64_t tokens = 0;      // n
  double loss_before = 0;  // mean over these tokens, in nats
  std::array<Along, kStepDirections> along;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_EQUAL_NORM_STEPS_H_
