// Finds the QR of a tall matrix from QRs of blocks of its rows (TSQR). It is backward stable, and the blocks go to
// different threads or ranks. The source is Demmel, Grigori, Hoemmen & Langou 2012, "Communication-optimal parallel and
// sequential QR and LU factorizations". A Gram matrix would square the condition.
#ifndef ISTHMUS_MODEL_MEASURE_TALL_QR_H_
#define ISTHMUS_MODEL_MEASURE_TALL_QR_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <Eigen/QR>
#include <optional>
#include <vector>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/stream.h"

namespace isthmus {

// X = Q R, where X is [m, n] with any m. Q [m, k] has orthonormal columns, R is [k, n], k = min(m, n).
class TallQr {
 public:
  explicit TallQr(const Eigen::Ref<const Matrix, 0, Eigen::OuterStride<>>& x);

  const Eigen::MatrixXd& r() const { return r_; }
  // Returns Q C for C [k, c].
  Eigen::MatrixXd Apply(const Eigen::MatrixXd& c) const;

 private:
  using Householder = Eigen::HouseholderQR<Eigen::MatrixXd>;
  std::vector<Householder> leaves_;
  std::vector<Eigen::Index> first_row_;  // of each leaf's R in their stack, and its end
  Householder top_;                      // of that stack
  Eigen::MatrixXd r_;
};

// Does the same for a matrix whose row shards are spread over the ranks of a group.
class ShardedQr {
 public:
  // `ranges` lists the rows of all shards. `shards` are this rank's, fp64, [first, first + size) of them; every rank
  // has equally many. Collective: R factors of n×n are gathered.
  static absl::StatusOr<ShardedQr> Factor(absl::Span<const ConstTensor> shards, size_t first,
                                          absl::Span<const Range> ranges, Communicator& group);

  const Eigen::MatrixXd& r() const { return top_->r(); }
  // Returns this rank's shards of Q C.
  std::vector<Matrix> Apply(const Eigen::MatrixXd& c) const;

 private:
  std::vector<TallQr> shards_;
  std::vector<Eigen::Index> first_row_;  // of each local shard's R in the stack of all
  std::optional<TallQr> top_;
};

// Returns, in fp64, all rows of a matrix [rows, n] of any floating type. Its row shards (ShardOf) are spread over the
// ranks of `group`. Collective over `group`, whose tensors are in host memory. Errors: of collectives and copies.
absl::StatusOr<Eigen::MatrixXd> GatherRows(const Tensor& shard, int64_t rows, Communicator& group,
                                           const Stream& stream);

// Returns R [n, n] alone of a matrix [m, n] of any floating type whose row shards are spread over the ranks of `group`.
// If it has fewer rows than columns, the last rows of R are zero. It takes a few rows at a time: it needs memory of a
// few n×n matrices for each rank of the group. Collective over `group`, whose tensors are in host memory. Errors: of
// collectives and copies.
absl::StatusOr<Eigen::MatrixXd> TriangularFactor(const Tensor& shard, Communicator& group, const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TALL_QR_H_
