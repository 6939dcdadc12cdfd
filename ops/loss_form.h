// A softmax cross-entropy may have these forms. All devices share their formulas: the functions are constexpr, so that
// both compilers accept them.
//
//   z' = c tanh(z / c)                                a soft cap of the logits (Gemma 2, arXiv:2408.00118, section 2)
//   trained loss = log_sum_exp(z') - z'_y + λ log_sum_exp(z')²    with a z-loss (PaLM, arXiv:2204.02311, section 5;
//                                                     ST-MoE, arXiv:2202.08906, eq. 5)
//   ∂/∂z_v = s_v (β p_v - [v = y])    with p = softmax(z'),  β = 1 + 2 λ log_sum_exp(z'),  s_v = 1 - (z'_v / c)²
//
// The gradient is that by the logits before the cap, so that a head stays linear. The loss that is reported is the
// cross-entropy alone. A logit that is not finite stays as it is, so that no check misses it.
#ifndef ISTHMUS_OPS_LOSS_FORM_H_
#define ISTHMUS_OPS_LOSS_FORM_H_

#include <cmath>

namespace isthmus {

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
  // Returns β.
  constexpr double ProbabilityFactor(double log_sum_exp) const {
    return z_loss == 0 ? 1 : 1 + 2 * z_loss * log_sum_exp;
  }
  // Returns the gradient by the target's logit, from miss = p_y - 1, which the caller knows without cancellation.
  constexpr double TargetGradient(double miss, double log_sum_exp, double capped_logit) const {
    if (plain()) return miss;
    const double more = z_loss == 0 ? 0 : 2 * z_loss * log_sum_exp * (1 + miss);
    return Slope(capped_logit) * (miss + more);
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_OPS_LOSS_FORM_H_
