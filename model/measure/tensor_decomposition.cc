#include "model/measure/tensor_decomposition.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>

#include "model/measure/frequency_buckets.h"
#include "model/measure/head_factor.h"
#include "model/measure/head_sums.h"
#include "model/measure/lost_part.h"
#include "model/measure/matrix.h"
#include "model/measure/tall_qr.h"
#include "model/measure/tensor_scales.h"
#include "model/measure/token_sample.h"
#include "ops/cross_entropy.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Logits that exist at once, of one shard.
constexpr int64_t kChunkLogits = int64_t{1} << 23;

int64_t ChunkTokens(int64_t rows) { return std::clamp<int64_t>(kChunkLogits / std::max<int64_t>(rows, 1), 8, 512); }

// One of this rank's shards of the vocabulary, and what is summed up for it.
struct Shard {
  Range rows;
  ConstTensor weight;      // [V_i, width], as given
  Matrix scaled;           // U_s [V_i, width]; empty if not scaled
  Matrix basis;            // Q_i [V_i, k]
  Matrix gradient;         // B_i = G_iᵀ H' [V_i, width]
  Matrix logits;           // [C, V_i], then their gradient
  Eigen::VectorXd energy;  // Σ_n G[n, v]²
  ConstTensor factor() { return scaled.size() > 0 ? ConstTensor(TensorOf(scaled)) : weight; }
  bool Owns(int32_t token) const { return token >= rows.begin && token < rows.end; }
};

class TensorDecomposition {
 public:
  TensorDecomposition(const HeadTensors& tensors, Communicator& tensor, Communicator& data)
      : tensors_(tensors),
        tensor_(tensor),
        data_(data),
        width_(tensors.weights.front().columns),
        hidden_width_(tensors.down.defined() ? tensors.down.columns : width_),
        scale_(1.0 / static_cast<double>(tensors.tokens)),
        sample_(TokenSample::Of(tensors.tokens, tensors.sample_tokens)) {}

  absl::StatusOr<HeadFigures> Run() {
    ISTHMUS_ASSIGN_OR_RETURN(scales_, TensorScales::Of(tensors_, tensor_, data_));
    ScaleHead();
    ISTHMUS_RETURN_IF_ERROR(FactorHead());
    Allocate();
    for (const TokenPart& part : tensors_.parts) {
      const int64_t step = logits_rows_;
      for (int64_t begin = 0; begin < part.hidden.rows; begin += step) {
        ISTHMUS_RETURN_IF_ERROR(AddChunk(part, begin, std::min(step, part.hidden.rows - begin)));
      }
    }
    ISTHMUS_RETURN_IF_ERROR(ExpectFiniteLogits());
    ISTHMUS_RETURN_IF_ERROR(SumOverTokens());
    ISTHMUS_RETURN_IF_ERROR(AddSample());
    ISTHMUS_RETURN_IF_ERROR(SumOverVocabulary());
    ISTHMUS_RETURN_IF_ERROR(AddUpdate());
    return MakeMeasurement(sums_);
  }

 private:
  absl::Status Sum(Communicator& group, Matrix& matrix) {
    return group.AllReduce(Tensor(matrix.data(), DType::kFloat64, 1, matrix.size()));
  }
  absl::Status Sum(Communicator& group, Eigen::VectorXd& vector) {
    return group.AllReduceNumbers(absl::MakeSpan(vector.data(), static_cast<size_t>(vector.size())));
  }

  void ScaleHead() {
    for (size_t i = 0; i < tensors_.weights.size(); ++i) {
      Shard& shard = shards_.emplace_back();
      shard.rows = tensors_.shards[tensors_.first_shard + i];
      shard.weight = tensors_.weights[i];
      if (!scales_.up.empty()) {
        shard.scaled = ScaledColumns(ConstViewOf(shard.weight), Negative(scales_.up));
      } else if (scales_.head != 0) {
        shard.scaled = TimesPowerOfTwo(ConstViewOf(shard.weight), -scales_.head);
      }
    }
    if (!has_down()) return;
    down_ = ScaledRows(ConstViewOf(tensors_.down), Negative(scales_.down));
    if (scales_.up.empty()) return;
    step_down_ = TimesPowerOfTwo(ConstViewOf(tensors_.down), -scales_.down_exponent);
  }
  static std::vector<int> Negative(std::vector<int> exponents) {
    for (int& exponent : exponents) exponent = -exponent;
    return exponents;
  }
  bool has_down() const { return tensors_.down.defined(); }

  absl::Status FactorHead() {
    std::vector<ConstTensor> factors;
    for (Shard& shard : shards_) factors.push_back(shard.factor());
    ISTHMUS_ASSIGN_OR_RETURN(const ShardedQr qr,
                             ShardedQr::Factor(factors, tensors_.first_shard, tensors_.shards, tensor_));
    factor_ = isthmus::FactorHead(qr.r(), down_, tensors_.vocabulary);
    std::vector<Matrix> bases = qr.Apply(factor_.rotation);
    for (size_t i = 0; i < bases.size(); ++i) shards_[i].basis = std::move(bases[i]);
    return absl::OkStatus();
  }

  void Allocate() {
    const int64_t columns = factor_.rotation.cols();
    int64_t widest = 0;
    for (const Range& rows : tensors_.shards) widest = std::max(widest, rows.size());
    logits_rows_ = ChunkTokens(widest);
    for (Shard& shard : shards_) {
      shard.gradient = Matrix::Zero(shard.rows.size(), width_);
      shard.logits = Matrix(logits_rows_, shard.rows.size());
      shard.energy = Eigen::VectorXd::Zero(shard.rows.size());
    }
    sums_.tokens = tensors_.tokens;
    sums_.vocabulary = tensors_.vocabulary;
    sums_.width = width_;
    sums_.singular_values = factor_.singular_values;
    sums_.singular_values_exponent = scales_.head;
    sums_.rank = sums_.singular_values_rank = factor_.rank;
    hidden_gram_ = Matrix::Zero(hidden_width_, hidden_width_);
    sums_.hidden_unit_sum = Eigen::VectorXd::Zero(hidden_width_);
    sums_.sampled_hidden = Matrix::Zero(sample_.count, hidden_width_);
    sampled_ = Matrix::Zero(sample_.count, kSampledFigures);
    sampled_projected_ = Matrix::Zero(sample_.count, columns);
    projected_gram_ = Matrix::Zero(columns, columns);
    projected_hidden_ = Matrix::Zero(columns, hidden_width_);
    shard_energy_ = Eigen::VectorXd::Zero(static_cast<int64_t>(tensors_.shards.size()));
  }

  // Returns the input of the vocabulary-sized factor. Its product with LogitFactor, times 2^logit_exponent, is the
  // logits. For a plain head both are the given tensors: numbers that vanish in that product do not matter to a logit.
  Matrix HeadInput(const Matrix& hidden) const {
    return has_down() ? Matrix(TimesPowerOfTwo(hidden, -scales_.hidden) * down_.transpose()) : hidden;
  }
  ConstTensor LogitFactor(Shard& shard) const { return has_down() ? shard.factor() : shard.weight; }
  absl::Status FormLogits(Matrix& input, const ConstTensor& weight, const Tensor& logits) {
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = TensorOf(input), .b = weight, .c = logits, .transpose_b = true}, stream_));
    const int exponent = has_down() ? scales_.hidden + scales_.head : 0;
    if (exponent != 0) ViewOf(logits) = TimesPowerOfTwo(ViewOf(logits), exponent);
    return absl::OkStatus();
  }

  // Logits of a chunk on every shard, its loss, and the gradient of the logits in their place.
  struct ChunkLoss {
    Matrix loss, log_sum_exp, energy;  // [1, C], [1, C], [T, C]
  };
  absl::StatusOr<ChunkLoss> LogitGradients(Matrix& input, const ConstTensor& targets, int64_t first_token) {
    const int64_t tokens = input.rows(), local = static_cast<int64_t>(shards_.size()),
                  all = static_cast<int64_t>(tensors_.shards.size());
    Matrix statistics(local * tokens, kCrossEntropyStatistics), gathered(all * tokens, kCrossEntropyStatistics);
    for (int64_t i = 0; i < local; ++i) {
      Shard& shard = shards_[static_cast<size_t>(i)];
      const Tensor logits = TensorOf(shard.logits).RowSlice(0, tokens);
      ISTHMUS_RETURN_IF_ERROR(FormLogits(input, LogitFactor(shard), logits));
      bad_logit_.Search(ConstViewOf(logits), first_token, shard.rows.begin);
      ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics({.logits = logits,
                                                      .targets = targets,
                                                      .first_row = shard.rows.begin,
                                                      .statistics = TensorOf(statistics).RowSlice(i * tokens, tokens)},
                                                     stream_));
    }
    ISTHMUS_RETURN_IF_ERROR(tensor_.AllGather(TensorOf(statistics), TensorOf(gathered)));
    ChunkLoss result{Matrix(1, tokens), Matrix(1, tokens), Matrix(all, tokens)};
    ISTHMUS_RETURN_IF_ERROR(CrossEntropyCombine({.gathered = TensorOf(gathered),
                                                 .shards = all,
                                                 .loss = TensorOf(result.loss),
                                                 .log_sum_exp = TensorOf(result.log_sum_exp),
                                                 .energy = TensorOf(result.energy)},
                                                stream_));
    bad_loss_.Search(ConstViewOf(TensorOf(result.loss).Reshape(tokens, 1)), first_token, 0);
    for (Shard& shard : shards_) {
      const Tensor logits = TensorOf(shard.logits).RowSlice(0, tokens);
      ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = logits,
                                                    .targets = targets,
                                                    .first_row = shard.rows.begin,
                                                    .loss = TensorOf(result.loss),
                                                    .log_sum_exp = TensorOf(result.log_sum_exp),
                                                    .scale = scale_,
                                                    .grad_logits = logits},
                                                   stream_));
    }
    return result;
  }

  // A number that is not finite is noted, and reported when all ranks are through, so that no rank waits alone in a
  // collective.
  absl::Status ExpectFiniteLogits() {
    ISTHMUS_ASSIGN_OR_RETURN(const auto logit, bad_logit_.First(tensor_, data_));
    if (logit.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(tensors_.hidden_name, ": row ", logit->row, " times row ", logit->column, " of ",
                       tensors_.head_name, has_down() ? absl::StrCat(" by way of ", tensors_.down_name) : "",
                       " is a logit of ", logit->value, "; needs logits within the range of float64"));
    }
    ISTHMUS_ASSIGN_OR_RETURN(const auto loss, bad_loss_.First(tensor_, data_));
    if (!loss.has_value()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(tensors_.hidden_name, ": row ", loss->row, " has a loss of ",
                                                   loss->value, " with ", tensors_.head_name,
                                                   "; needs logits whose differences lie within the range of float64"));
  }

  absl::Status AddChunk(const TokenPart& part, int64_t begin, int64_t tokens) {
    const Matrix given = ConstViewOf(part.hidden.RowSlice(begin, tokens));
    Matrix input = HeadInput(given), hidden = TimesPowerOfTwo(given, -scales_.hidden);
    const ConstTensor targets = part.targets.ColumnSlice(begin, tokens);
    ISTHMUS_ASSIGN_OR_RETURN(const ChunkLoss loss, LogitGradients(input, targets, part.first_token + begin));
    // From here on `input` is the matrix that the gradient of the vocabulary-sized factor is formed with.
    if (step_down_.size() > 0) input = hidden * step_down_.transpose();
    if (!has_down() && scales_.hidden != 0) input = hidden;

    Matrix projected = Matrix::Zero(tokens, projected_gram_.rows());
    for (Shard& shard : shards_) {
      const Tensor gradient = TensorOf(shard.logits).RowSlice(0, tokens);
      ISTHMUS_RETURN_IF_ERROR(
          Matmul({.a = gradient, .b = TensorOf(shard.basis), .c = TensorOf(projected), .accumulate = true}, stream_));
      ISTHMUS_RETURN_IF_ERROR(
          Gram({.x = gradient, .y = TensorOf(input), .c = TensorOf(shard.gradient), .workspace = {}}, stream_));
      shard.energy += shard.logits.topRows(tokens).array().square().matrix().colwise().sum().transpose();
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, projected));
    // G_∥[n, y_n] on the shard that owns the target.
    Eigen::VectorXd at_target = Eigen::VectorXd::Zero(tokens);
    for (int64_t n = 0; n < tokens; ++n) {
      const int32_t target = targets.As<int32_t>()[n];
      for (const Shard& shard : shards_) {
        if (!shard.Owns(target)) continue;
        at_target(n) =
            projected.row(n).head(factor_.rank).dot(shard.basis.row(target - shard.rows.begin).head(factor_.rank));
      }
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, at_target));

    ISTHMUS_RETURN_IF_ERROR(AddGram(projected, projected, projected_gram_));
    ISTHMUS_RETURN_IF_ERROR(AddGram(projected, hidden, projected_hidden_));
    ISTHMUS_RETURN_IF_ERROR(AddGram(hidden, hidden, hidden_gram_));
    sums_.hidden_unit_sum += UnitRowSum(given);
    sums_.zero_hidden_rows += ZeroRows(given);
    shard_energy_ += loss.energy.rowwise().sum() * (scale_ * scale_);
    for (int64_t n = 0; n < tokens; ++n) {
      const double own = std::expm1(-loss.loss(0, n));  // p_y - 1
      const double retained = projected.row(n).head(factor_.rank).squaredNorm();
      const double norm = std::sqrt(loss.energy.col(n).sum());
      sums_.loss += loss.loss(0, n) * scale_;
      sums_.target_sum += own * scale_;
      sums_.target_energy += own * own * scale_ * scale_;
      sums_.retained_target_sum += at_target(n);
      sums_.retained_target_energy += at_target(n) * at_target(n);
      sums_.token_gradient.Add(norm);
      sums_.retained_ratio.Add(norm > 0 ? std::sqrt(retained) / (norm * scale_) : 0);
    }
    const TokenSample::Part sample = sample_.In(part.first_token + begin, tokens);
    for (int64_t i = 0; i < sample.count; ++i) {
      const int64_t n = sample.offset + i * sample_.stride;
      sums_.sampled_hidden.row(sample.first + i) = given.row(n);
      sampled_projected_.row(sample.first + i).head(factor_.rank) = projected.row(n).head(factor_.rank);
      sampled_.row(sample.first + i) << loss.loss(0, n), loss.log_sum_exp(0, n), targets.As<int32_t>()[n],
          projected.row(n).head(factor_.rank).squaredNorm();
    }
    return absl::OkStatus();
  }

  absl::Status AddGram(Matrix& x, Matrix& y, Matrix& sum) {
    return Gram({.x = TensorOf(x), .y = TensorOf(y), .c = TensorOf(sum), .workspace = {}}, stream_);
  }

  absl::Status SumOverTokens() {
    for (Matrix* matrix :
         {&projected_gram_, &projected_hidden_, &hidden_gram_, &sums_.sampled_hidden, &sampled_, &sampled_projected_}) {
      ISTHMUS_RETURN_IF_ERROR(Sum(data_, *matrix));
    }
    for (Shard& shard : shards_) {
      ISTHMUS_RETURN_IF_ERROR(Sum(data_, shard.gradient));
      ISTHMUS_RETURN_IF_ERROR(Sum(data_, shard.energy));
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(data_, sums_.hidden_unit_sum));
    ISTHMUS_RETURN_IF_ERROR(Sum(data_, shard_energy_));
    ISTHMUS_RETURN_IF_ERROR(SumHistogram(sums_.retained_ratio));
    ISTHMUS_RETURN_IF_ERROR(SumHistogram(sums_.token_gradient));
    double scalars[] = {sums_.loss,
                        sums_.target_sum,
                        sums_.target_energy,
                        sums_.retained_target_sum,
                        sums_.retained_target_energy,
                        static_cast<double>(sums_.zero_hidden_rows)};
    ISTHMUS_RETURN_IF_ERROR(data_.AllReduceNumbers(absl::MakeSpan(scalars)));
    sums_.loss = scalars[0];
    sums_.target_sum = scalars[1];
    sums_.target_energy = scalars[2];
    sums_.retained_target_sum = scalars[3];
    sums_.retained_target_energy = scalars[4];
    sums_.zero_hidden_rows = static_cast<int64_t>(scalars[5]);

    const auto rank = factor_.rank;
    sums_.retained_energy = projected_gram_.topLeftCorner(rank, rank).trace();
    signal_gram_ = factor_.transform.transpose() * projected_gram_ * factor_.transform;
    signal_hidden_ = factor_.transform.transpose() * projected_hidden_;
    head_gram_ = factor_.transform.transpose() * factor_.transform;
    sums_.sampled_retained = sampled_.col(kRetained).sum();
    return absl::OkStatus();
  }

  absl::Status SumHistogram(Histogram& histogram) {
    std::vector<double> values(histogram.counts.begin(), histogram.counts.end());
    values.push_back(histogram.sum);
    ISTHMUS_RETURN_IF_ERROR(data_.AllReduceNumbers(absl::MakeSpan(values)));
    histogram.sum = values.back();
    for (size_t i = 0; i < histogram.counts.size(); ++i) histogram.counts[i] = static_cast<int64_t>(values[i]);
    return absl::OkStatus();
  }

  // Computes G_s G_sᵀ, and G_s - F_s Qᵀ. The sampled tokens' logits are computed again, one block of the vocabulary at
  // a time.
  absl::Status AddSample() {
    Matrix input = HeadInput(sums_.sampled_hidden), loss = sampled_.col(kLoss).transpose(),
           log_sum_exp = sampled_.col(kLogSumExp).transpose();
    std::vector<int32_t> targets;
    for (int64_t n = 0; n < sample_.count; ++n) targets.push_back(static_cast<int32_t>(sampled_(n, kTarget)));
    const int64_t step = std::clamp<int64_t>(kChunkLogits / sample_.count, 64, 8192);
    Matrix block(sample_.count, step);
    sums_.sample_gram = Matrix::Zero(sample_.count, sample_.count);
    LostPart lost(sampled_projected_, width_);
    for (Shard& shard : shards_) {
      for (int64_t row = 0; row < shard.rows.size(); row += step) {
        const int64_t rows = std::min(step, shard.rows.size() - row);
        const Tensor logits = TensorOf(block).ColumnSlice(0, rows);
        ISTHMUS_RETURN_IF_ERROR(FormLogits(input, LogitFactor(shard).RowSlice(row, rows), logits));
        ISTHMUS_RETURN_IF_ERROR(
            CrossEntropyGradient({.logits = logits,
                                  .targets = Tensor(targets.data(), DType::kInt32, 1, sample_.count),
                                  .first_row = shard.rows.begin + row,
                                  .loss = TensorOf(loss),
                                  .log_sum_exp = TensorOf(log_sum_exp),
                                  .scale = scale_,
                                  .grad_logits = logits},
                                 stream_));
        ISTHMUS_RETURN_IF_ERROR(Matmul(
            {.a = logits, .b = logits, .c = TensorOf(sums_.sample_gram), .transpose_b = true, .accumulate = true},
            stream_));
        ISTHMUS_RETURN_IF_ERROR(
            lost.Add(logits, TensorOf(shard.basis).RowSlice(row, rows), shard.factor().RowSlice(row, rows), stream_));
      }
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, sums_.sample_gram));
    ISTHMUS_RETURN_IF_ERROR(lost.Sum(tensor_));
    sums_.self_test = {.energy = sums_.sample_gram.trace(),
                       .retained = sums_.sampled_retained,
                       .lost = lost.energy(),
                       .lost_passed_on = lost.PassedOn(down_, factor_.rank > 0 ? factor_.singular_values(0) : 0)};
    return absl::OkStatus();
  }

  absl::Status SumOverVocabulary() {
    const std::vector<uint8_t> bucket_of = FrequencyBuckets(tensors_.counts);
    const int64_t all = static_cast<int64_t>(tensors_.shards.size());
    // By shard and by bucket: energy, retained energy, rows.
    Matrix by_shard = Matrix::Zero(all, 3), by_bucket = Matrix::Zero(kFrequencyBuckets, 3);
    gradient_gram_ = Matrix::Zero(width_, width_);
    sums_.head_unit_sum = Eigen::VectorXd::Zero(width_);
    const auto rank = factor_.rank;
    for (size_t i = 0; i < shards_.size(); ++i) {
      Shard& shard = shards_[i];
      ISTHMUS_RETURN_IF_ERROR(AddGram(shard.gradient, shard.gradient, gradient_gram_));
      sums_.head_unit_sum += UnitRowSum(ConstViewOf(shard.weight));
      sums_.zero_head_rows += ZeroRows(ConstViewOf(shard.weight));
      // Of row v: q_v (FᵀF) q_vᵀ.
      const Matrix kept = shard.basis.leftCols(rank) * projected_gram_.topLeftCorner(rank, rank);
      const auto at = static_cast<int64_t>(tensors_.first_shard + i);
      for (int64_t row = 0; row < shard.rows.size(); ++row) {
        const double retained = kept.row(row).dot(shard.basis.row(row).head(rank));
        by_shard(at, 1) += retained;
        by_bucket.row(bucket_of[static_cast<size_t>(shard.rows.begin + row)]) +=
            Eigen::RowVector3d(shard.energy(row), retained, 1);
      }
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, gradient_gram_));
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, sums_.head_unit_sum));
    auto zero_rows = static_cast<double>(sums_.zero_head_rows);
    ISTHMUS_RETURN_IF_ERROR(tensor_.AllReduceNumbers(absl::MakeSpan(&zero_rows, 1)));
    sums_.zero_head_rows = static_cast<int64_t>(zero_rows);
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, by_shard));
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, by_bucket));
    for (int64_t i = 0; i < all; ++i) {
      sums_.shards.push_back({tensors_.shards[static_cast<size_t>(i)].size(), shard_energy_(i), by_shard(i, 1)});
    }
    for (int64_t i = 0; i < kFrequencyBuckets; ++i) {
      sums_.buckets.push_back({static_cast<int64_t>(by_bucket(i, 2)), by_bucket(i, 0), by_bucket(i, 1)});
    }
    return absl::OkStatus();
  }

  absl::Status AddUpdate() {
    const ArenaLayout layout = [&] {
      TensorPlacer placer;
      HeadUpdateMemory::Place(width_, hidden_width_, has_down(), placer);
      return placer.layout();
    }();
    ISTHMUS_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate("head update", layout.bytes(), Device::kCpu));
    TensorPlacer placer(&arena);
    const HeadUpdateMemory memory = HeadUpdateMemory::Place(width_, hidden_width_, has_down(), placer);
    const TensorScales::UpdateWeights weights = scales_.ForUpdate();
    Matrix step;
    if (!scales_.up.empty()) {
      std::vector<int> twice = scales_.up;
      for (int& exponent : twice) exponent = 2 * (exponent - scales_.up_exponent);
      step = ScaledRows(signal_hidden_, twice);
    }
    ISTHMUS_ASSIGN_OR_RETURN(sums_.update, SumUpdate({.head_gram = TensorOf(head_gram_),
                                                      .signal_gram = TensorOf(signal_gram_),
                                                      .signal_hidden = TensorOf(signal_hidden_),
                                                      .hidden_gram = TensorOf(hidden_gram_),
                                                      .gradient_gram = TensorOf(gradient_gram_),
                                                      .down = has_down() ? TensorOf(down_) : Tensor(),
                                                      .hidden_weight = weights.hidden,
                                                      .head_weight = weights.head,
                                                      .down_weight = weights.down,
                                                      .step_down = step.size() > 0 ? TensorOf(step_down_) : Tensor(),
                                                      .step = step.size() > 0 ? TensorOf(step) : Tensor()},
                                                     memory, stream_));
    return absl::OkStatus();
  }

  // Columns of `sampled_`.
  enum Figure { kLoss, kLogSumExp, kTarget, kRetained, kSampledFigures };

  const HeadTensors& tensors_;
  Communicator& tensor_;
  Communicator& data_;
  int64_t width_, hidden_width_;
  double scale_;  // of the loss: 1/N
  TokenSample sample_;
  int64_t logits_rows_ = 0;
  Stream stream_;
  TensorScales scales_;
  HeadFactor factor_;
  std::vector<Shard> shards_;
  NonFinite bad_logit_, bad_loss_;
  HeadSums sums_;
  Matrix down_;       // E_s, empty for a plain head
  Matrix step_down_;  // E, all rows scaled alike; empty if it is E_s
  Matrix head_gram_, signal_gram_, signal_hidden_, hidden_gram_, gradient_gram_;  // model/measure/head_update.h
  Matrix projected_gram_;                                                         // FᵀF
  Matrix projected_hidden_;                                                       // Fᵀ H
  Matrix sampled_;                                                                // [n, kSampledFigures]
  Matrix sampled_projected_;                                                      // F of the sampled tokens [n, k]
  Eigen::VectorXd shard_energy_;                                                  // of all tensor ranks' shards
};

}  // namespace

absl::StatusOr<HeadFigures> DecomposeTensors(const HeadTensors& tensors, Communicator& tensor, Communicator& data) {
  return TensorDecomposition(tensors, tensor, data).Run();
}

}  // namespace isthmus
