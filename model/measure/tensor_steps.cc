#include "model/measure/tensor_steps.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "model/algebra/symmetric.h"
#include "model/measure/head_sums.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/token_figures.h"
#include "ops/cross_entropy.h"
#include "ops/matmul.h"
#include "parallel/shard.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A block of the sampled tokens' logits has at most this many numbers, or 64 columns. Several blocks then lie in cache.
constexpr int64_t kBlockLogits = int64_t{1} << 19;
// A direction is measured if it is that many times longer than the rounding of G in it.
constexpr double kLeastAboveRounding = 1e3;
constexpr double kRounding = std::numeric_limits<double>::epsilon();

// Adds a token's statistics over other rows of the vocabulary to `sum` (ops/cross_entropy.h). No loss needs the sums of
// squares.
void AddStatistics(const double* other, double* sum) {
  const double maximum = std::max(sum[0], other[0]);
  const auto shifted = [&](const double* of) { return of[1] != 0 ? of[1] * std::exp(of[0] - maximum) : 0.0; };
  sum[1] = shifted(sum) + shifted(other);
  sum[0] = maximum;
  if (other[3] != -kInfinity) sum[3] = other[3];
}

class TensorStepPass {
 public:
  TensorStepPass(const TensorHead& head, const TensorSample& sample, Communicator& tensor, Communicator& data)
      : head_(head),
        sample_(sample),
        tensor_(tensor),
        data_(data),
        own_(ShardOf(sample.count(), data.size(), data.rank())) {}

  // Finds the directions and their norms.
  void Prepare(const TensorTokenSums& tokens, const Matrix& gram) {
    const int64_t count = sample_.count(), rank = head_.rank();
    steps_.tokens = count;
    steps_.loss_before = tokens.sampled.figures.col(SampledTokens::kLoss).mean();
    const double energy = gram.trace(), norm = std::sqrt(energy);
    if (!(energy >= kLeastEnergy)) {
      for (EqualNormSteps::Along& along : steps_.along) {
        along.not_measured = "squares of the sampled tokens' logit gradient are below the range of fp64";
      }
      return;
    }
    norms_[kFullStep] = norm;
    Eigen::VectorXd weights = Eigen::VectorXd::Ones(rank);
    SetThroughHead(kVisibleStep, tokens.sampled_projected, weights, norm);
    if (rank > 0) weights = (head_.factor().singular_values.head(rank) / head_.factor().singular_values(0)).cwiseAbs2();
    SetThroughHead(kHiddenStep, tokens.sampled_projected, weights, norm);
    norms_[kBestRankStep] = norm;
    if (count > 2 * head_.width()) SetBest(gram, 2 * head_.width());  // else it is G itself
  }

  absl::StatusOr<EqualNormSteps> Run() {
    // A direction that any data rank could not measure has no losses.
    std::array<double, kStepDirections * kStepSizes.size()> losses;
    for (size_t i = 0; i < losses.size(); ++i) {
      losses[i] = Measures(i / kStepSizes.size()) ? 0 : std::numeric_limits<double>::quiet_NaN();
    }
    const bool any = absl::c_any_of(losses, [](double loss) { return loss == 0; });
    if (any && own_.size() > 0) {
      Allocate();
      for (const TensorHead::Shard& shard : head_.shards()) {
        for (int64_t row = 0; row < shard.rows.size(); row += block_.rows) {
          ISTHMUS_RETURN_IF_ERROR(AddBlock(shard, row, std::min(block_.rows, shard.rows.size() - row)));
        }
      }
      ISTHMUS_RETURN_IF_ERROR(AddLosses(absl::MakeSpan(losses)));
    }
    ISTHMUS_RETURN_IF_ERROR(data_.AllReduceNumbers(absl::MakeSpan(losses)));
    for (size_t i = 0; i < losses.size(); ++i) {
      steps_.along[i / kStepSizes.size()].losses[i % kStepSizes.size()] =
          losses[i] / static_cast<double>(steps_.tokens);
    }
    return std::move(steps_);
  }

 private:
  // Sets a direction X = F diag(weights) Qᵀ. Rounding moves a row of F by some ε times the length of that of G, in no
  // particular direction.
  void SetThroughHead(StepDirection direction, const Matrix& projected, const Eigen::VectorXd& weights, double norm) {
    std::string& not_measured = steps_.along[direction].not_measured;
    Matrix x = projected;  // columns beyond the rank are zero
    x.leftCols(weights.size()).array().rowwise() *= weights.transpose().array();
    norms_[direction] = x.norm();
    if (weights.size() == 0) {
      not_measured = "the head has a rank of 0 and passes nothing on";
    } else if (!(norms_[direction] > kLeastAboveRounding * kRounding * weights.norm() * norm)) {
      not_measured = "rounding hides what the head passes on of the sampled tokens' logit gradient";
    }
    coefficients_[direction] = x.middleRows(own_.begin, own_.size());
  }

  // Sets the best approximation of G by a rank. It is not unique if the singular values before and after the cut are
  // alike. Rounding turns the eigenvectors there by some ε √n times the largest eigenvalue over the gap of the two.
  void SetBest(const Matrix& gram, int64_t rank) {
    const FirstEigenvectors first = FindFirstEigenvectors(gram, rank);
    const double energy = first.values.head(rank).sum(), last = std::max(first.values(rank - 1), 0.0);
    const double gap = first.values(rank - 1) - first.values(rank);
    const double rounding = kRounding * std::sqrt(static_cast<double>(sample_.count())) * first.values(0);
    if (gap < kLeastAboveRounding * rounding * std::sqrt(last / energy)) {
      steps_.along[kBestRankStep].not_measured =
          absl::StrCat("the best approximation of rank ", rank, " is not unique, because singular values ", rank,
                       " and ", rank + 1, " of the sampled tokens' logit gradient are alike");
      return;
    }
    norms_[kBestRankStep] = std::sqrt(energy);
    projection_ = first.vectors.middleRows(own_.begin, own_.size()) * first.vectors.transpose();
  }

  void Allocate() {
    const int64_t count = sample_.count(), own = own_.size();
    block_.rows = std::clamp<int64_t>(kBlockLogits / count, 64, 4096);
    block_.logits = block_.gradient = Matrix(count, block_.rows);
    block_.direction = block_.moved = Matrix(own, block_.rows);
    block_.statistics = Matrix(own, kCrossEntropyStatistics);
    for (auto& sizes : statistics_) {
      for (Matrix& statistics : sizes) {
        statistics = Matrix::Zero(own, kCrossEntropyStatistics);
        statistics.col(0).setConstant(-kInfinity);
        statistics.col(3).setConstant(-kInfinity);
      }
    }
  }

  bool Measures(size_t direction) const { return steps_.along[direction].not_measured.empty(); }
  static Tensor Columns(Matrix& matrix, int64_t columns) { return TensorOf(matrix).ColumnSlice(0, columns); }

  absl::Status AddBlock(const TensorHead::Shard& shard, int64_t row, int64_t rows) {
    const LogitGradientTokens all = sample_.All();
    const int64_t first_row = shard.rows.begin + row;
    const Tensor logits = Columns(block_.logits, rows), gradient = Columns(block_.gradient, rows);
    ISTHMUS_RETURN_IF_ERROR(FormLogits(all, head_.LogitRowsOf(shard).Slice(row, rows), logits, stream_));
    ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = logits,
                                                  .targets = all.targets,
                                                  .first_row = first_row,
                                                  .loss = all.loss,
                                                  .log_sum_exp = all.log_sum_exp,
                                                  .form = all.form,
                                                  .scale = all.scale,
                                                  .grad_logits = gradient},
                                                 stream_));
    const Tensor own_gradient = gradient.RowSlice(own_.begin, own_.size());
    const ConstTensor basis = TensorOf(shard.basis).RowSlice(row, rows);
    const Tensor formed = Columns(block_.direction, rows);
    for (size_t i = 0; i < kStepDirections; ++i) {
      if (!Measures(i)) continue;
      Tensor direction = formed;
      if (i == kFullStep || (i == kBestRankStep && projection_.size() == 0)) {
        direction = own_gradient;
      } else if (i == kBestRankStep) {
        ISTHMUS_RETURN_IF_ERROR(Matmul({.a = TensorOf(projection_), .b = gradient, .c = formed}, stream_));
      } else {
        ISTHMUS_RETURN_IF_ERROR(
            Matmul({.a = TensorOf(coefficients_[i]), .b = basis, .c = formed, .transpose_b = true}, stream_));
      }
      ISTHMUS_RETURN_IF_ERROR(AddSteps(i, logits.RowSlice(own_.begin, own_.size()), direction, first_row));
    }
    return absl::OkStatus();
  }

  // Takes the steps of all sizes along `x`, a block of direction number `direction`.
  absl::Status AddSteps(size_t direction, const Tensor& logits, const Tensor& x, int64_t first_row) {
    const Tensor moved = Columns(block_.moved, logits.columns);
    const ConstMatrixView from = ConstViewOf(logits), along = ConstViewOf(x);
    MatrixView to = ViewOf(moved);
    for (size_t i = 0; i < kStepSizes.size(); ++i) {
      const double factor = kStepSizes[i] * std::sqrt(static_cast<double>(sample_.count())) / norms_[direction];
      ParallelFor(from.rows(), 1, [&](int64_t begin, int64_t end, int) {
        to.middleRows(begin, end - begin) =
            from.middleRows(begin, end - begin) - factor * along.middleRows(begin, end - begin);
      });
      ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics({.logits = moved,
                                                      .targets = sample_.In(own_).targets,
                                                      .first_row = first_row,
                                                      .form = sample_.form(),
                                                      .statistics = TensorOf(block_.statistics)},
                                                     stream_));
      Matrix& sums = statistics_[direction][i];
      for (int64_t n = 0; n < sums.rows(); ++n) AddStatistics(block_.statistics.row(n).data(), sums.row(n).data());
    }
    return absl::OkStatus();
  }

  // Adds this data rank's tokens.
  absl::Status AddLosses(absl::Span<double> losses) {
    const int64_t own = own_.size();
    Matrix gathered(tensor_.size() * own, kCrossEntropyStatistics), loss(1, own), log_sum_exp(1, own);
    for (size_t i = 0; i < losses.size(); ++i) {
      const size_t direction = i / kStepSizes.size();
      if (!Measures(direction)) continue;
      Matrix& statistics = statistics_[direction][i % kStepSizes.size()];
      ISTHMUS_RETURN_IF_ERROR(tensor_.AllGather(TensorOf(statistics), TensorOf(gathered)));
      ISTHMUS_RETURN_IF_ERROR(CrossEntropyCombine({.gathered = TensorOf(gathered),
                                                   .shards = tensor_.size(),
                                                   .form = sample_.form(),
                                                   .loss = TensorOf(loss),
                                                   .log_sum_exp = TensorOf(log_sum_exp)},
                                                  stream_));
      losses[i] = loss.sum();
    }
    return absl::OkStatus();
  }

  const TensorHead& head_;
  const TensorSample& sample_;
  Communicator& tensor_;
  Communicator& data_;
  const Range own_;  // of the sampled tokens
  Stream stream_;
  EqualNormSteps steps_;
  std::array<double, kStepDirections> norms_{};       // ‖X‖
  std::array<Matrix, kStepDirections> coefficients_;  // of X = C Qᵀ, of own tokens
  Matrix projection_;                                 // rows of U Uᵀ of own tokens; empty if the best is G itself
  // These are of a block of vocabulary rows.
  struct Block {
    int64_t rows = 0;         // at most
    Matrix logits, gradient;  // [n, rows]
    Matrix direction, moved;  // X and Z' of own tokens
    Matrix statistics;
  } block_;
  std::array<std::array<Matrix, kStepSizes.size()>, kStepDirections> statistics_;  // of Z' over the rows so far
};

}  // namespace

absl::StatusOr<EqualNormSteps> TakeEqualNormSteps(const TensorHead& head, const TensorTokenSums& tokens,
                                                  const TensorSample& sample, const Matrix& gram, Communicator& tensor,
                                                  Communicator& data) {
  TensorStepPass pass(head, sample, tensor, data);
  pass.Prepare(tokens, gram);
  return pass.Run();
}

}  // namespace isthmus
