#include "model/algebra/gram_factor.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <optional>

#include "model/algebra/matrix.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The host factors this many columns at once. On a GPU the host takes about as long for them as the device for the
// rest.
constexpr int64_t kBlock = 64;
// These are steps of power iteration. The largest eigenvalue of a head's Gram matrix is mostly far from the next; the
// smallest is not.
constexpr int kSteps = 3, kInverseSteps = 8;
constexpr double kGoldenRatio = 0.6180339887498949;

Tensor Part(const Tensor& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  return matrix.RowSlice(row, rows).ColumnSlice(column, columns);
}

// Divides the workspace into pieces of kBlock rows: the first three hold a block's factors, the others products.
class Pieces {
 public:
  explicit Pieces(const Tensor& workspace) : workspace_(workspace) {}
  Tensor Of(int64_t piece, int64_t rows, int64_t columns) const {
    return Tensor(workspace_.RowSlice(piece * kBlock, 1).data, DType::kFloat64, rows, columns);
  }

 private:
  Tensor workspace_;
};

// Returns R, R⁻¹ and -R⁻¹ of a block, one below the other.
std::optional<Matrix> FactorBlock(const Matrix& block) {
  const Eigen::LLT<Matrix, Eigen::Upper> cholesky(block);
  if (!block.allFinite() || cholesky.info() != Eigen::Success) return std::nullopt;
  const Eigen::Index size = block.rows();
  Matrix factors(3 * size, size);
  factors << Matrix(cholesky.matrixU()), Matrix::Identity(size, size), Matrix::Zero(size, size);
  cholesky.matrixU().solveInPlace(factors.middleRows(size, size));
  factors.bottomRows(size) = -factors.middleRows(size, size);
  if (!factors.allFinite()) return std::nullopt;
  return factors;
}

}  // namespace

absl::StatusOr<bool> FactorGram(const GramFactorArgs& args, Stream& stream) {
  const Tensor &r = args.gram, &inverse = args.inverse;
  const int64_t n = r.rows;
  const Pieces pieces(args.workspace);
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = inverse}, stream));
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t size = std::min(kBlock, n - at), rest = n - at - size;
    const Tensor factors = pieces.Of(0, 3 * size, size), factor = factors.RowSlice(0, size);
    const Tensor block_inverse = factors.RowSlice(size, size), negative = factors.RowSlice(2 * size, size);
    Matrix host(size, size);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = Part(r, at, size, at, size), .y = factor}, stream));
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(factor, TensorOf(host), stream));
    std::optional<Matrix> found = FactorBlock(host);
    if (!found.has_value()) return false;
    ISTHMUS_RETURN_IF_ERROR(CopyFromHost(TensorOf(*found), factors, stream));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = factor, .y = Part(r, at, size, at, size)}, stream));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = block_inverse, .y = Part(inverse, at, size, at, size)}, stream));

    if (at > 0) {  // the columns of the inverse above: -R₀₀⁻¹ R₀₁ R₁₁⁻¹
      const Tensor product = pieces.Of(3, at, size);
      ISTHMUS_RETURN_IF_ERROR(Matmul({.a = Part(r, 0, at, at, size), .b = negative, .c = product}, stream));
      ISTHMUS_RETURN_IF_ERROR(
          Matmul({.a = Part(inverse, 0, at, 0, at), .b = product, .c = Part(inverse, 0, at, at, size)}, stream));
    }
    if (rest == 0) continue;
    // `rows` are the rows of R to the right, R₁₁⁻ᵀ M₁₂. They leave M₂₂ - R₁₂ᵀ R₁₂ of the matrix below.
    const Tensor right = Part(r, at, size, at + size, rest);
    const Tensor rows = pieces.Of(3, size, rest), negative_rows = pieces.Of(4, size, rest);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = block_inverse, .b = right, .c = rows, .transpose_a = true}, stream));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = negative, .b = right, .c = negative_rows, .transpose_a = true}, stream));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = right}, stream));
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = Part(r, at + size, rest, at, size)}, stream));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = negative_rows,
                                    .b = rows,
                                    .c = Part(r, at + size, rest, at + size, rest),
                                    .transpose_a = true,
                                    .accumulate = true},
                                   stream));
  }
  return true;
}

absl::StatusOr<double> ReciprocalCondition(const Tensor& gram, const Tensor& inverse, const Tensor& workspace,
                                           Stream& stream) {
  const int64_t n = gram.rows;
  const Tensor x = workspace.RowSlice(0, 1), between = workspace.RowSlice(1, 1), y = workspace.RowSlice(2, 1);
  const auto frobenius = [&](const Tensor& matrix) -> absl::StatusOr<double> {
    const Tensor total = workspace.RowSlice(3, 1).ColumnSlice(0, 1);
    double squares = 0;
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = total}, stream));
    ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = matrix, .total = total}, stream));
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(total, Tensor(&squares, DType::kFloat64, 1, 1), stream));
    return std::sqrt(squares);
  };
  // Returns how much longer a unit row becomes; this grows from step to step.
  const auto power = [&](int steps, const auto& apply) -> absl::StatusOr<double> {
    // No vector of a regular head is orthogonal to it.
    Matrix row(1, n);
    for (int64_t i = 0; i < n; ++i) row(0, i) = 0.5 + std::fmod(static_cast<double>(i) * kGoldenRatio, 1.0);
    double growth = 0;
    for (int i = 0; i < steps; ++i) {
      row /= row.norm();
      ISTHMUS_RETURN_IF_ERROR(CopyFromHost(TensorOf(row), x, stream));
      ISTHMUS_RETURN_IF_ERROR(apply());
      ISTHMUS_RETURN_IF_ERROR(CopyToHost(y, TensorOf(row), stream));
      growth = row.norm();
    }
    return growth;
  };
  ISTHMUS_ASSIGN_OR_RETURN(double norm, power(kSteps, [&] { return Matmul({.a = x, .b = gram, .c = y}, stream); }));
  ISTHMUS_ASSIGN_OR_RETURN(double inverse_norm, power(kInverseSteps, [&]() -> absl::Status {
                             ISTHMUS_RETURN_IF_ERROR(Matmul({.a = x, .b = inverse, .c = between}, stream));
                             return Matmul({.a = between, .b = inverse, .c = y, .transpose_b = true}, stream);
                           }));
  // These bounds are certain: ‖M‖₂ ≥ ‖M‖_F / √n and ‖M⁻¹‖₂ ≥ tr(M⁻¹) / n = ‖R⁻¹‖_F² / n.
  ISTHMUS_ASSIGN_OR_RETURN(const double gram_length, frobenius(gram));
  ISTHMUS_ASSIGN_OR_RETURN(const double inverse_length, frobenius(inverse));
  norm = std::max(norm, gram_length / std::sqrt(static_cast<double>(n)));
  inverse_norm = std::max(inverse_norm, inverse_length * inverse_length / static_cast<double>(n));
  return 1 / (norm * inverse_norm);
}

}  // namespace isthmus
