#include "model/measure/token_figures.h"

#include <cmath>

namespace isthmus {

void TokenSums::Add(const TokenFigures& token, double scale, const LossForm& form) {
  const double capped_logit = token.log_sum_exp - token.loss;
  const double target = form.TargetGradient(std::expm1(-token.loss), token.log_sum_exp, capped_logit, token.weights);
  const double norm = std::sqrt(token.energy);
  loss += token.loss * scale;
  retained_energy += token.retained_energy;
  target_sum += target * scale;
  target_energy += target * target * scale * scale;
  retained_target_sum += token.retained_at_target;
  retained_target_energy += token.retained_at_target * token.retained_at_target;
  token_gradient.Add(norm);
  retained_ratio.Add(norm > 0 ? std::sqrt(token.retained_energy) / (norm * scale) : 0);
}

void TokenSums::AddTo(PackedSum& packed) {
  for (double* sum : {&loss, &retained_energy, &target_energy, &retained_target_energy, &target_sum,
                      &retained_target_sum, &sampled_retained}) {
    packed.Add(*sum);
  }
  packed.Add(retained_ratio);
  packed.Add(token_gradient);
}

}  // namespace isthmus
