// These are the figures of single tokens in the head decomposition. Both of its drivers feed the same sums: training
// with F = A P, and tensors in memory with F = G Q (model/measure/head_sums.h). G is the gradient of the mean loss over
// N tokens.
#ifndef ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_
#define ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_

#include <absl/types/span.h>

#include <cstdint>
#include <iterator>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/histogram.h"
#include "model/measure/packed_sum.h"
#include "model/measure/token_sample.h"
#include "ops/loss_form.h"

namespace isthmus {

struct TokenFigures {
  double loss = 0, log_sum_exp = 0;  // the loss without the z-loss
  int32_t target = 0;
  TokenWeights weights;  // of the gradient by the target's logit
  double energy = 0;     // of the gradient of the token's own loss: N² ‖G_n‖²; ‖p - y‖² in the plain form
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
  // These are the columns of `figures`. Those of K later targets follow.
  enum Figure { kLoss, kLogSumExp, kTarget, kRetained, kFigures };

  TokenSample sample;
  std::vector<double> future_weights;  // w_1 to w_K of the loss (ops/future_targets.h)
  Matrix figures;                      // [sample.count, kFigures + K]; zeros for tokens that this rank has not seen

  SampledTokens() = default;
  explicit SampledTokens(const TokenSample& of, absl::Span<const double> weights = {})
      : sample(of),
        future_weights(weights.begin(), weights.end()),
        figures(Matrix::Zero(of.count, kFigures + std::ssize(weights))) {}
  // `place` is the place among the sampled tokens. Later targets stay as they are.
  void Set(int64_t place, const TokenFigures& token) {
    figures.row(place).head(kFigures) << token.loss, token.log_sum_exp, token.target, token.retained_energy;
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TOKEN_FIGURES_H_
