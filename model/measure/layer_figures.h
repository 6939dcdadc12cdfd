// LayerFigures are those of the residual stream at one place: the entrance of a layer, or of the final norm.
#ifndef ISTHMUS_MODEL_MEASURE_LAYER_FIGURES_H_
#define ISTHMUS_MODEL_MEASURE_LAYER_FIGURES_H_

#include <limits>

namespace isthmus {

struct LayerFigures {
  double gradient_norm = 0;  // of the mean loss by the stream
  // These are mean cosines of two tokens' streams (arXiv:2401.12143). The first is over all tokens of the step, the
  // second over a sample, from which the mean of all tokens was subtracted. A cosine is NaN for fewer than two rows that
  // are not zero. The second is NaN also for rows that are alike.
  double anisotropy = std::numeric_limits<double>::quiet_NaN();
  double centred_anisotropy = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LAYER_FIGURES_H_
