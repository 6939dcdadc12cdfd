// These are the figures of single tokens in the head decomposition. Both of its drivers feed the same sums: training
// with F = A P, and tensors in memory with F = G Q (model/measure/head_sums.h). G is the gradient of the mean loss over
// N tokens.
#ifndef ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_
#define ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_

#include <cstdint>

#include "model/algebra/matrix.h"
#include "model/measure/histogram.h"
#include "model/measure/packed_sum.h"
#include "model/measure/token_sample.h"
#include "ops/loss_form.h"

namespace isthmus {

struct TokenFigures {
  double loss = 0, log_sum_exp = 0;  // the loss without the z-loss
  int32_t target = 0;
  double energy = 0;  // of the gradient of the token's own loss: N² ‖G_n‖²; ‖p - y‖² in the plain form
  double retained_energy = 0;     // ‖G_∥,n‖² = ‖F_n‖²
  double retained_at_target = 0;  // G_∥[n, y_n]
};

struct TokenSums {
  double loss = 0;                                       // mean
  double retained_energy = 0;                            // ‖G_∥‖²
  double target_energy = 0, retained_target_energy = 0;  // Σ G[n, y_n]², Σ G_∥[n, y_n]²
  double target_sum = 0, retained_target_sum = 0;        // Σ G[n, y_n], Σ G_∥[n, y_n]
  double sampled_retained = 0;                           // ‖G_∥‖² of the sampled tokens
  Histogram retained_ratio{RetainedRatioBounds()}, token_gradient{TokenGradientBounds()};

  // Adds a token to all but `sampled_retained`. `scale` is the factor of its loss in the mean, 1/N.
  void Add(const TokenFigures& token, double scale, const LossForm& form);
  // Adds the sums to those that are summed over ranks. They must stay where they are until then.
  void AddTo(PackedSum& packed);
};

// Keeps figures of the sampled tokens one by one, from which their logit gradient can be formed again.
struct SampledTokens {
  // These are the columns of `figures`.
  enum Figure { kLoss, kLogSumExp, kTarget, kRetained, kFigures };

  TokenSample sample;
  Matrix figures;  // [sample.count, kFigures]; zeros for tokens that this rank has not seen

  SampledTokens() = default;
  explicit SampledTokens(const TokenSample& of) : sample(of), figures(Matrix::Zero(of.count, kFigures)) {}
  // `place` is the place among the sampled tokens.
  void Set(int64_t place, const TokenFigures& token) {
    figures.row(place) << token.loss, token.log_sum_exp, token.target, token.retained_energy;
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_
