// A softmax cross-entropy may have these forms. All devices share their formulas: the functions are constexpr, so that
// both compilers accept them.
//
//   z' = c tanh(z / c)                                a soft cap of the logits (Gemma 2, arXiv:2408.00118, section 2)
//   trained loss = log_sum_exp(z') - z'_y + λ log_sum_exp(z')²    with a z-loss (PaLM, arXiv:2204.02311, section 5;
//                                                     ST-MoE, arXiv:2202.08906, eq. 5)
//   ∂/∂z_v = s_v (β p_v - [v = y])    with p = softmax(z'),  β = 1 + 2 λ log_sum_exp(z'),  s_v = 1 - (z'_v / c)²
//
// A loss that mixes the softmax with something else has weights τ and ε for each token. They take the place of 1 and 0:
//
//   ∂/∂z_v = s_v (τ (p_v - [v = y]) + (ε + 2 λ log_sum_exp(z')) p_v)
//
// The gradient is that by the logits before the cap, so that a head stays linear. The loss that is reported is the
// cross-entropy alone. A logit that is not finite stays as it is, so that no check misses it.
#ifndef ISTHMUS_OPS_LOSS_FORM_H_
#define ISTHMUS_OPS_LOSS_FORM_H_

#include <cmath>

namespace isthmus {

// The weights of one token's gradient.
struct TokenWeights {
  double target = 1;  // τ
  double excess = 0;  // ε
};

struct LossForm {
  double soft_cap = 0;  // c; 0: z' = z
  double z_loss = 0;    // λ

  constexpr bool capped() const { return soft_cap != 0; }
  constexpr bool plain() const { return soft_cap == 0 && z_loss == 0; }
  // Returns z' of z, on the host.
  double Capped(double logit) const {
    return capped() && std::isfinite(logit) ? soft_cap * std::tanh(logit / soft_cap) : logit;
  }
  // Returns s of z'.
  constexpr double Slope(double capped_logit) const {
    const double share = capped() ? capped_logit / soft_cap : 0;
    return (1 - share) * (1 + share);
  }
  // Returns β, or τ + ε + 2 λ log_sum_exp.
  constexpr double ProbabilityFactor(double log_sum_exp, TokenWeights weights = {}) const {
    const double factor = weights.target + weights.excess;
    return z_loss == 0 ? factor : factor + 2 * z_loss * log_sum_exp;
  }
  // Returns the gradient by the target's logit, from miss = p_y - 1, which the caller knows without cancellation.
  constexpr double TargetGradient(double miss, double log_sum_exp, double capped_logit,
                                  TokenWeights weights = {}) const {
    if (plain() && weights.excess == 0) return weights.target * miss;
    const double more = z_loss == 0 ? weights.excess : weights.excess + 2 * z_loss * log_sum_exp;
    return Slope(capped_logit) * (weights.target * miss + more * (1 + miss));
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_OPS_LOSS_FORM_H_
