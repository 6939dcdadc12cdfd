#include "model/measure/tall_qr.h"

#include <algorithm>

#include "model/algebra/host_copy.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns the rows of a leaf: several times the columns, so that the stack of the leaves' factors stays small.
Eigen::Index LeafRows(Eigen::Index columns) { return std::max<Eigen::Index>(4 * columns, 1024); }

Eigen::MatrixXd UpperFactor(const Eigen::HouseholderQR<Eigen::MatrixXd>& qr) {
  const auto& packed = qr.matrixQR();
  return packed.topRows(std::min(packed.rows(), packed.cols())).triangularView<Eigen::Upper>();
}

Eigen::MatrixXd ApplyHouseholder(const Eigen::HouseholderQR<Eigen::MatrixXd>& qr, const Eigen::MatrixXd& c) {
  Eigen::MatrixXd product = Eigen::MatrixXd::Zero(qr.rows(), c.cols());
  product.topRows(c.rows()) = c;
  product.applyOnTheLeft(qr.householderQ());
  return product;
}

}  // namespace

TallQr::TallQr(const Eigen::Ref<const Matrix, 0, Eigen::OuterStride<>>& x) {
  const Eigen::Index rows = x.rows(), columns = x.cols(), leaf_rows = LeafRows(columns);
  const Eigen::Index leaves = std::max<Eigen::Index>(rows / leaf_rows, 1);
  const auto leaf = [&](Eigen::Index i) { return ShardOf(rows, static_cast<int>(leaves), static_cast<int>(i)); };
  leaves_.resize(static_cast<size_t>(leaves));
  first_row_.push_back(0);
  for (Eigen::Index i = 0; i < leaves; ++i) first_row_.push_back(first_row_.back() + std::min(leaf(i).size(), columns));
  Eigen::MatrixXd stack = Eigen::MatrixXd::Zero(first_row_.back(), columns);
  ParallelFor(leaves, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      leaves_[at].compute(x.middleRows(leaf(i).begin, leaf(i).size()));
      stack.middleRows(first_row_[at], first_row_[at + 1] - first_row_[at]) = UpperFactor(leaves_[at]);
    }
  });
  top_.compute(stack);
  r_ = UpperFactor(top_);
}

Eigen::MatrixXd TallQr::Apply(const Eigen::MatrixXd& c) const {
  const Eigen::MatrixXd stack = ApplyHouseholder(top_, c);
  std::vector<Eigen::Index> first = {0};
  for (const Householder& leaf : leaves_) first.push_back(first.back() + leaf.rows());
  Eigen::MatrixXd product(first.back(), c.cols());
  ParallelFor(static_cast<int64_t>(leaves_.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      product.middleRows(first[i], leaves_[i].rows()) =
          ApplyHouseholder(leaves_[i], stack.middleRows(first_row_[i], first_row_[i + 1] - first_row_[i]));
    }
  });
  return product;
}

absl::StatusOr<ShardedQr> ShardedQr::Factor(absl::Span<const ConstTensor> shards, size_t first,
                                            absl::Span<const Range> ranges, Communicator& group) {
  ShardedQr qr;
  const int64_t columns = shards.front().columns, all = static_cast<int64_t>(ranges.size());
  // Equal pieces are gathered: a factor of fewer rows is padded here and cut again below.
  Matrix local = Matrix::Zero(static_cast<int64_t>(shards.size()) * columns, columns), gathered(all * columns, columns);
  for (size_t i = 0; i < shards.size(); ++i) {
    qr.shards_.emplace_back(ConstViewOf(shards[i]));
    const Eigen::MatrixXd& factor = qr.shards_.back().r();
    local.block(static_cast<int64_t>(i) * columns, 0, factor.rows(), columns) = factor;
  }
  ISTHMUS_RETURN_IF_ERROR(group.AllGather(TensorOf(local), TensorOf(gathered)));
  std::vector<Eigen::Index> first_row = {0};
  for (const Range& range : ranges) first_row.push_back(first_row.back() + std::min(range.size(), columns));
  Matrix stack(first_row.back(), columns);
  for (int64_t i = 0; i < all; ++i) {
    const Eigen::Index row = first_row[static_cast<size_t>(i)], rows = first_row[static_cast<size_t>(i) + 1] - row;
    stack.middleRows(row, rows) = gathered.middleRows(i * columns, rows);
  }
  qr.first_row_.assign(first_row.begin() + static_cast<int64_t>(first),
                       first_row.begin() + static_cast<int64_t>(first + shards.size()));
  qr.top_.emplace(stack);
  return qr;
}

std::vector<Matrix> ShardedQr::Apply(const Eigen::MatrixXd& c) const {
  const Eigen::MatrixXd stack = top_->Apply(c);
  std::vector<Matrix> products;
  for (size_t i = 0; i < shards_.size(); ++i) {
    products.emplace_back(shards_[i].Apply(stack.middleRows(first_row_[i], shards_[i].r().rows())));
  }
  return products;
}

absl::StatusOr<Eigen::MatrixXd> GatherRows(const Tensor& shard, int64_t rows, Communicator& group,
                                           const Stream& stream) {
  // Equal pieces are gathered: the first shard is the longest one.
  const int64_t longest = ShardOf(rows, group.size(), 0).size(), columns = shard.columns;
  Matrix own = Matrix::Zero(longest, columns), all(longest * group.size(), columns);
  ISTHMUS_ASSIGN_OR_RETURN(own.topRows(shard.rows), HostCopy(shard, stream));
  ISTHMUS_RETURN_IF_ERROR(group.AllGather(TensorOf(own), TensorOf(all)));
  Eigen::MatrixXd gathered(rows, columns);
  for (int rank = 0; rank < group.size(); ++rank) {
    const Range range = ShardOf(rows, group.size(), rank);
    gathered.middleRows(range.begin, range.size()) = all.middleRows(rank * longest, range.size());
  }
  return gathered;
}

absl::StatusOr<Eigen::MatrixXd> TriangularFactor(const Tensor& shard, Communicator& group, const Stream& stream) {
  const int64_t columns = shard.columns, step = std::max<int64_t>(2 * columns, 256);
  const auto reduce = [&](const auto& above, const auto& below) {
    Eigen::MatrixXd stack(above.rows() + below.rows(), columns);
    stack << above, below;
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(stack);
    return Eigen::MatrixXd(qr.matrixQR().topRows(columns).template triangularView<Eigen::Upper>());
  };
  Eigen::MatrixXd r = Eigen::MatrixXd::Zero(columns, columns);
  for (int64_t row = 0; row < shard.rows; row += step) {
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix rows,
                             HostCopy(shard.RowSlice(row, std::min(step, shard.rows - row)), stream));
    r = reduce(r, rows);
  }
  if (group.size() == 1) return r;
  Matrix own = r, all(columns * group.size(), columns);
  ISTHMUS_RETURN_IF_ERROR(group.AllGather(TensorOf(own), TensorOf(all)));
  r.setZero();
  for (int64_t row = 0; row < all.rows(); row += columns) r = reduce(r, all.middleRows(row, columns));
  return r;
}

}  // namespace isthmus
