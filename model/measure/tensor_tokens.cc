#include "model/measure/tensor_tokens.h"

#include <absl/types/span.h>

#include <algorithm>
#include <utility>

#include "model/measure/frequency_buckets.h"
#include "model/measure/head_sums.h"
#include "model/measure/packed_sum.h"
#include "model/measure/tensor_chunk.h"
#include "model/measure/token_sample.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

class TensorTokenPass {
 public:
  TensorTokenPass(const HeadTensors& tensors, const TensorScales& scales, const TensorHead& head, Communicator& tensor,
                  Communicator& data)
      : tensors_(tensors),
        scales_(scales),
        head_(head),
        tensor_(tensor),
        data_(data),
        scale_(1.0 / static_cast<double>(tensors.tokens)),
        chunk_(tensors, head, tensor) {}

  absl::StatusOr<TensorTokenSums> Run() {
    Allocate();
    for (const TokenPart& part : tensors_.parts) {
      for (int64_t begin = 0; begin < part.hidden.rows; begin += chunk_.capacity()) {
        ISTHMUS_RETURN_IF_ERROR(AddChunk(part, begin, std::min(chunk_.capacity(), part.hidden.rows - begin)));
      }
    }
    ISTHMUS_RETURN_IF_ERROR(chunk_.ExpectFinite(data_));
    ISTHMUS_RETURN_IF_ERROR(SumOverData());
    return std::move(sums_);
  }

 private:
  void Allocate() {
    const int64_t columns = head_.factor().rotation.cols(), hidden_width = head_.hidden_width();
    for (const TensorHead::Shard& shard : head_.shards()) {
      const int64_t rows = shard.rows.size();
      sums_.shards.push_back({Matrix::Zero(rows, head_.width()), Eigen::VectorXd::Zero(rows)});
    }
    sums_.hidden_gram = Matrix::Zero(hidden_width, hidden_width);
    sums_.projected_gram = Matrix::Zero(columns, columns);
    sums_.projected_hidden = Matrix::Zero(columns, hidden_width);
    sums_.hidden_sum = sums_.hidden_unit_sum = Eigen::VectorXd::Zero(hidden_width);
    if (tensors_.block_tokens > 0) {
      sums_.blocks = BlockEnergies(tensors_.tokens, tensors_.block_tokens);
      bucket_of_ = FrequencyBuckets(tensors_.counts);
    }
    sums_.shard_energy.assign(tensors_.shards.size(), 0.0);
    sums_.sampled = SampledTokens(TokenSample::Of(tensors_.tokens, tensors_.sample_tokens));
    const int64_t sampled = sums_.sampled.sample.count;
    sums_.sampled_hidden = Matrix::Zero(sampled, hidden_width);
    sums_.sampled_projected = Matrix::Zero(sampled, columns);
  }

  absl::Status AddChunk(const TokenPart& part, int64_t begin, int64_t tokens) {
    const Matrix given = ConstViewOf(part.hidden.RowSlice(begin, tokens));
    const Matrix input = head_.Input(given), hidden = TimesPowerOfTwo(given, -scales_.hidden);
    const ConstTensor targets = part.targets.ColumnSlice(begin, tokens);
    ISTHMUS_ASSIGN_OR_RETURN(const TensorChunk::Loss loss, chunk_.Form(input, targets, part.first_token + begin));
    const Matrix gradient_input = head_.GradientInput(hidden, input);
    Matrix projected = Matrix::Zero(tokens, sums_.projected_gram.rows());
    for (size_t i = 0; i < sums_.shards.size(); ++i) {
      TensorTokenSums::Shard& sums = sums_.shards[i];
      const Tensor gradient = chunk_.gradient(i, tokens);
      ISTHMUS_RETURN_IF_ERROR(
          Matmul({.a = gradient, .b = TensorOf(head_.shards()[i].basis), .c = TensorOf(projected), .accumulate = true},
                 stream_));
      ISTHMUS_RETURN_IF_ERROR(
          Gram({.x = gradient, .y = TensorOf(gradient_input), .c = TensorOf(sums.gradient), .workspace = {}}, stream_));
      sums.energy += ViewOf(gradient).array().square().matrix().colwise().sum().transpose();
    }
    ISTHMUS_RETURN_IF_ERROR(tensor_.AllReduce(TensorOf(projected).Reshape(1, projected.size())));
    ISTHMUS_RETURN_IF_ERROR(AddGram(projected, projected, sums_.projected_gram));
    ISTHMUS_RETURN_IF_ERROR(AddGram(projected, hidden, sums_.projected_hidden));
    ISTHMUS_RETURN_IF_ERROR(AddGram(hidden, hidden, sums_.hidden_gram));
    sums_.hidden_sum += hidden.colwise().sum().transpose();
    sums_.hidden_unit_sum += UnitRowSum(given);
    sums_.zero_hidden_rows += ZeroRows(given);
    for (size_t i = 0; i < sums_.shard_energy.size(); ++i) {
      sums_.shard_energy[i] += loss.energy.row(static_cast<Eigen::Index>(i)).sum() * (scale_ * scale_);
    }
    return AddTokens(part.first_token + begin, given, targets, loss, projected);
  }

  // `first_token` is the place of the chunk among all tokens.
  absl::Status AddTokens(int64_t first_token, const Matrix& given, const ConstTensor& targets,
                         const TensorChunk::Loss& loss, const Matrix& projected) {
    ISTHMUS_ASSIGN_OR_RETURN(const Eigen::VectorXd at_target, RetainedAtTarget(targets, projected));
    const auto figures = [&](int64_t n) {
      return TokenFigures{.loss = loss.loss(0, n),
                          .log_sum_exp = loss.log_sum_exp(0, n),
                          .target = targets.As<int32_t>()[n],
                          .energy = loss.energy.col(n).sum(),
                          .retained_energy = projected.row(n).head(head_.rank()).squaredNorm(),
                          .retained_at_target = at_target(n)};
    };
    for (int64_t n = 0; n < given.rows(); ++n) {
      const TokenFigures token = figures(n);
      sums_.token.Add(token, scale_, tensors_.form);
      if (bucket_of_.empty()) continue;
      sums_.blocks.Add(first_token + n, bucket_of_[static_cast<size_t>(token.target)], token.energy * (scale_ * scale_),
                       token.retained_energy);
    }
    const TokenSample& sample = sums_.sampled.sample;
    const TokenSample::Part part = sample.In(first_token, given.rows());
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t n = part.offset + i * sample.stride, place = part.first + i;
      sums_.sampled.Set(place, figures(n));
      sums_.sampled_hidden.row(place) = given.row(n);
      sums_.sampled_projected.row(place).head(head_.rank()) = projected.row(n).head(head_.rank());
    }
    return absl::OkStatus();
  }

  // Returns G_∥[n, y_n], which the shard that owns the target knows.
  absl::StatusOr<Eigen::VectorXd> RetainedAtTarget(const ConstTensor& targets, const Matrix& projected) {
    Eigen::VectorXd at_target = Eigen::VectorXd::Zero(projected.rows());
    const int64_t rank = head_.rank();
    for (int64_t n = 0; n < projected.rows(); ++n) {
      const int32_t target = targets.As<int32_t>()[n];
      for (const TensorHead::Shard& shard : head_.shards()) {
        if (!shard.Owns(target)) continue;
        at_target(n) = projected.row(n).head(rank).dot(shard.basis.row(target - shard.rows.begin).head(rank));
      }
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(tensor_, at_target));
    return at_target;
  }

  absl::Status SumOverData() {
    for (Matrix* matrix : {&sums_.projected_gram, &sums_.projected_hidden, &sums_.hidden_gram, &sums_.sampled_hidden,
                           &sums_.sampled.figures, &sums_.sampled_projected}) {
      ISTHMUS_RETURN_IF_ERROR(data_.AllReduce(TensorOf(*matrix).Reshape(1, matrix->size())));
    }
    if (Matrix& blocks = sums_.blocks.sums; blocks.size() > 0) {
      ISTHMUS_RETURN_IF_ERROR(data_.AllReduce(TensorOf(blocks).Reshape(1, blocks.size())));
    }
    for (TensorTokenSums::Shard& shard : sums_.shards) {
      ISTHMUS_RETURN_IF_ERROR(data_.AllReduce(TensorOf(shard.gradient).Reshape(1, shard.gradient.size())));
      ISTHMUS_RETURN_IF_ERROR(Sum(data_, shard.energy));
    }
    ISTHMUS_RETURN_IF_ERROR(Sum(data_, sums_.hidden_sum));
    ISTHMUS_RETURN_IF_ERROR(Sum(data_, sums_.hidden_unit_sum));
    auto zero_rows = static_cast<double>(sums_.zero_hidden_rows);
    PackedSum packed;
    sums_.token.AddTo(packed);
    packed.Add(absl::MakeSpan(sums_.shard_energy));
    packed.Add(zero_rows);
    ISTHMUS_RETURN_IF_ERROR(packed.Reduce(data_));
    sums_.zero_hidden_rows = static_cast<int64_t>(zero_rows);
    // The energies of shards and buckets add up to the trace.
    sums_.token.retained_energy = sums_.projected_gram.topLeftCorner(head_.rank(), head_.rank()).trace();
    sums_.token.sampled_retained = sums_.sampled.figures.col(SampledTokens::kRetained).sum();
    return absl::OkStatus();
  }

  static absl::Status Sum(Communicator& group, Eigen::VectorXd& vector) {
    return group.AllReduceNumbers(absl::MakeSpan(vector.data(), static_cast<size_t>(vector.size())));
  }
  absl::Status AddGram(const Matrix& x, const Matrix& y, Matrix& sum) {
    return Gram({.x = TensorOf(x), .y = TensorOf(y), .c = TensorOf(sum), .workspace = {}}, stream_);
  }

  const HeadTensors& tensors_;
  const TensorScales& scales_;
  const TensorHead& head_;
  Communicator& tensor_;
  Communicator& data_;
  const double scale_;  // factor of a token's loss: 1/N
  TensorChunk chunk_;
  Stream stream_;
  std::vector<uint8_t> bucket_of_;  // of every token of the vocabulary; empty if no blocks are wanted
  TensorTokenSums sums_;
};

}  // namespace

absl::StatusOr<TensorTokenSums> SumTensorTokens(const HeadTensors& tensors, const TensorScales& scales,
                                                const TensorHead& head, Communicator& tensor, Communicator& data) {
  return TensorTokenPass(tensors, scales, head, tensor, data).Run();
}

}  // namespace isthmus
