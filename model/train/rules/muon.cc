// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum, then the nearest orthogonal matrix.
//
//   m = β₁ m + g      d = g + β₁ m      w = w − η (0.2 √max(rows, columns) orthogonal(d) + decay · w)
//
// orthogonal(d) takes d's singular values near 1 by five steps of Newton and Schulz in the accumulation type. The factor
// gives the update the size that AdamW's has (Liu et al. 2025, arXiv:2502.16982, equation 4), so that one learning rate
// serves both. The whole matrix is gathered from the ranks that have parts of it. All of them then compute the same.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/train/rules/rules.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/weight_step.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int kNewtonSchulzSteps = 5;
constexpr double kLinear = 3.4445, kCubic = -4.7750, kQuintic = 2.0315;
constexpr double kNormEpsilon = 1e-7;  // of the norm

// The memory of one update: two matrices, two of the smaller side's square, the owned run of the direction, and a sum.
class MuonScratch {
 public:
  MuonScratch(const ParameterSpec& spec, const Tensor& memory) : memory_(memory) {
    const int64_t side = std::min(spec.rows, spec.columns);
    matrix = Take(spec.rows, spec.columns);
    next = Take(spec.rows, spec.columns);
    square = Take(side, side);
    fourth = Take(side, side);
    run = Take(1, spec.local_size());
  }
  static int64_t Elements(const ParameterSpec& spec) {
    const int64_t side = std::min(spec.rows, spec.columns);
    return 2 * spec.rows * spec.columns + 2 * side * side + spec.local_size();
  }

  Tensor matrix, next, square, fourth, run;

 private:
  Tensor Take(int64_t rows, int64_t columns) {
    const Tensor taken = memory_.ColumnSlice(used_, rows * columns).Reshape(rows, columns);
    used_ += rows * columns;
    return taken;
  }
  Tensor memory_;
  int64_t used_ = 0;
};

// Copies between the owned run of a parameter and its places in the whole matrix.
template <typename Copy>
absl::Status ForRectangles(const OwnedElements& owned, const Tensor& run, const Tensor& matrix, const Copy& copy) {
  for (const Rectangle& part : RectanglesOf(*owned.spec, owned.elements)) {
    const Tensor place =
        matrix.RowSlice(part.rows.begin, part.rows.size()).ColumnSlice(part.columns.begin, part.columns.size());
    const Tensor piece = run.ColumnSlice(part.offset, part.rows.size() * part.columns.size())
                             .Reshape(part.rows.size(), part.columns.size());
    ISTHMUS_RETURN_IF_ERROR(copy(piece, place));
  }
  return absl::OkStatus();
}

// Makes scratch.matrix the whole direction on every rank.
absl::Status GatherDirection(const OwnedElements& owned, const MuonScratch& scratch, const UpdatePlace& place) {
  const bool over_tensor = owned.spec->sharding != Sharding::kReplicated && place.mesh.tensor_ranks() > 1;
  const bool over_data = place.sharded && place.mesh.data_ranks() > 1;
  if (over_tensor || over_data) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = scratch.matrix}, place.stream));
  ISTHMUS_RETURN_IF_ERROR(ForRectangles(owned, scratch.run, scratch.matrix, [&](const Tensor& piece, const Tensor& to) {
    return Cast({.x = piece, .y = to}, place.stream);
  }));
  if (over_data) ISTHMUS_RETURN_IF_ERROR(place.mesh.data().AllReduce(scratch.matrix));
  if (over_tensor) ISTHMUS_RETURN_IF_ERROR(place.mesh.tensor().AllReduce(scratch.matrix));
  return absl::OkStatus();
}

// Returns the matrix whose singular values are near 1, in memory of `scratch`.
absl::StatusOr<Tensor> Orthogonalise(const MuonScratch& scratch, Stream& stream) {
  Tensor x = scratch.matrix, next = scratch.next;
  ISTHMUS_RETURN_IF_ERROR(Normalise({.x = x, .epsilon = kNormEpsilon}, stream));
  const bool wide = x.rows <= x.columns;
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    // The Gram matrix of the smaller side, A = X Xᵀ or Xᵀ X.
    ISTHMUS_RETURN_IF_ERROR(
        Matmul({.a = x, .b = x, .c = scratch.square, .transpose_a = !wide, .transpose_b = wide}, stream));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = scratch.square, .b = scratch.square, .c = scratch.fourth}, stream));
    ISTHMUS_RETURN_IF_ERROR(
        Combine({.x = scratch.square, .y = scratch.fourth, .x_factor = kCubic, .y_factor = kQuintic}, stream));
    ISTHMUS_RETURN_IF_ERROR(
        Matmul({.a = wide ? scratch.fourth : x, .b = wide ? x : scratch.fourth, .c = next}, stream));
    ISTHMUS_RETURN_IF_ERROR(Combine({.x = x, .y = next, .x_factor = kLinear}, stream));
    std::swap(x, next);
  }
  return x;
}

absl::Status UpdateByMuon(const OwnedElements& owned, const UpdateNumbers& numbers, const UpdatePlace& place) {
  const int64_t count = owned.elements.size();
  const ParameterSpec& spec = *owned.spec;
  MuonScratch scratch(spec, place.scratch);
  const Tensor direction = scratch.run.ColumnSlice(0, count);
  if (count > 0) {
    const Tensor& momentum = owned.state[0];
    ISTHMUS_RETURN_IF_ERROR(Combine(
        {.x = owned.gradient, .y = momentum, .x_factor = numbers.grad_scale, .y_factor = numbers.beta1}, place.stream));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = owned.gradient, .y = direction}, place.stream));
    ISTHMUS_RETURN_IF_ERROR(Combine(
        {.x = momentum, .y = direction, .x_factor = numbers.beta1, .y_factor = numbers.grad_scale}, place.stream));
  }
  ISTHMUS_RETURN_IF_ERROR(GatherDirection(owned, scratch, place));
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor whole, Orthogonalise(scratch, place.stream));
  if (count == 0) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(ForRectangles(owned, scratch.run, whole, [&](const Tensor& piece, const Tensor& from) {
    return Cast({.x = from, .y = piece}, place.stream);
  }));
  return WeightStep({.weight = owned.weight,
                     .direction = direction,
                     .compute_weight = owned.compute_weight,
                     .learning_rate = numbers.learning_rate,
                     .scale = 0.2 * std::sqrt(static_cast<double>(std::max(spec.rows, spec.columns))),
                     .weight_decay = numbers.weight_decay},
                    place.stream);
}

std::string RefuseForMuon(const ParameterSpec& spec) {
  if (spec.rows > 1 && spec.columns > 1) return "";
  return absl::StrCat("muon accepts matrices; ", spec.name, " is [", spec.rows, ", ", spec.columns, "]");
}

}  // namespace

UpdateRule MuonRule() {
  return {.name = "muon",
          .state = {proto::FIRST_MOMENT},
          .update = UpdateByMuon,
          .refuse = RefuseForMuon,
          .scratch = MuonScratch::Elements};
}

}  // namespace isthmus
