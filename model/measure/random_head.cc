#include "model/measure/random_head.h"

#include <Eigen/Cholesky>
#include <algorithm>

#include "ops/gram.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

Matrix NormalRows(const Range& rows, int64_t columns, uint32_t draw) {
  Matrix x(rows.size(), columns);
  ParallelFor(rows.size(), 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const auto index = static_cast<uint64_t>((rows.begin + i) * columns + j);
        x(i, j) = Philox::Normal(0, RandomPurpose::kControlHead, draw, index);
      }
    }
  });
  return x;
}

// Replaces X by X R⁻¹, with XᵀX = RᵀR over all shards of the group.
absl::Status Orthonormalise(std::vector<Matrix>& shards, Communicator& tensor) {
  const int64_t columns = shards.front().cols();
  Matrix gram = Matrix::Zero(columns, columns);
  Stream stream;
  for (const Matrix& shard : shards) {
    ISTHMUS_RETURN_IF_ERROR(
        Gram({.x = TensorOf(shard), .y = TensorOf(shard), .c = TensorOf(gram), .workspace = {}}, stream));
  }
  ISTHMUS_RETURN_IF_ERROR(tensor.AllReduce(TensorOf(gram).Reshape(1, gram.size())));
  const Eigen::LLT<Eigen::MatrixXd> factor(gram);
  if (factor.info() != Eigen::Success) {
    return absl::InternalError("the Gram matrix of a random head has no Cholesky factor");
  }
  const Eigen::MatrixXd upper = factor.matrixU();
  constexpr int64_t kSolvedRows = 256;
  for (Matrix& shard : shards) {
    ParallelFor((shard.rows() + kSolvedRows - 1) / kSolvedRows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin * kSolvedRows; row < std::min(end * kSolvedRows, shard.rows()); row += kSolvedRows) {
        auto block = shard.middleRows(row, std::min(kSolvedRows, shard.rows() - row));
        upper.triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(block);
      }
    });
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Matrix>> RandomHead(absl::Span<const Range> shards, int64_t rank, uint32_t draw,
                                               Communicator& tensor) {
  std::vector<Matrix> basis;
  for (const Range& rows : shards) basis.push_back(NormalRows(rows, rank, draw));
  ISTHMUS_RETURN_IF_ERROR(Orthonormalise(basis, tensor));
  ISTHMUS_RETURN_IF_ERROR(Orthonormalise(basis, tensor));
  return basis;
}

}  // namespace isthmus
