#include "model/train/step_figures.h"

#include <absl/types/span.h>

#include <array>
#include <limits>

#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<StepFigures> AgreeOnFigures(const LocalStepFigures& local, double scale, const Mesh& mesh) {
  enum Place { kLoss, kCut, kReplicated, kBadLosses, kBadGradients, kPlaces };
  std::array<double, kPlaces> sums{};
  sums[kLoss] = local.loss_sum;
  sums[kCut] = local.squares.cut;
  sums[kReplicated] = local.squares.replicated;
  // This counts, because a rank whose share is left out below may be the only one with something to report.
  sums[kBadLosses] = std::isfinite(local.loss_sum) ? 0 : 1;
  sums[kBadGradients] = std::isfinite(local.squares.cut + local.squares.replicated) ? 0 : 1;
  if (mesh.data_ranks() > 1) {
    if (!local.squares_of_part && mesh.data_rank() != 0) sums[kCut] = sums[kReplicated] = 0;
    ISTHMUS_RETURN_IF_ERROR(mesh.data().AllReduceNumbers(absl::MakeSpan(sums)));
  }
  if (mesh.tensor_ranks() > 1) {
    if (mesh.tensor_rank() != 0) sums[kLoss] = sums[kReplicated] = 0;
    ISTHMUS_RETURN_IF_ERROR(mesh.tensor().AllReduceNumbers(absl::MakeSpan(sums)));
  }
  StepFigures figures;
  figures.loss = sums[kLoss] * scale;
  figures.gradient_norm = std::sqrt(sums[kCut] + sums[kReplicated]);
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  // All bad figures become the same NaN, without a sign.
  const auto spoil = [](double bad, double& figure) {
    if ((bad > 0 && std::isfinite(figure)) || std::isnan(figure)) figure = kNaN;
  };
  spoil(sums[kBadLosses], figures.loss);
  spoil(sums[kBadGradients], figures.gradient_norm);
  return figures;
}

}  // namespace isthmus
