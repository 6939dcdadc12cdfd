#include "model/measure/tensor_decomposition.h"

#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <algorithm>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/frequency_buckets.h"
#include "model/measure/head_sums.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/lost_part.h"
#include "model/measure/packed_sum.h"
#include "model/measure/part_energies.h"
#include "model/measure/resampled_intervals.h"
#include "model/measure/tensor_chunk.h"
#include "model/measure/tensor_controls.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_sample.h"
#include "model/measure/tensor_scales.h"
#include "model/measure/tensor_steps.h"
#include "model/measure/tensor_tokens.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/arena.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status SumMatrix(Communicator& group, Matrix& matrix) {
  return group.AllReduce(TensorOf(matrix).Reshape(1, matrix.size()));
}

HeadSums SumsOf(const HeadTensors& tensors, const TensorScales& scales, const TensorHead& head,
                const TensorTokenSums& tokens) {
  HeadSums sums;
  sums.tokens = tensors.tokens;
  sums.vocabulary = tensors.vocabulary;
  sums.width = head.width();
  sums.token = tokens.token;
  sums.singular_values = head.factor().singular_values;
  sums.singular_values_exponent = scales.head;
  sums.rank = sums.singular_values_rank = head.rank();
  sums.hidden_unit_sum = tokens.hidden_unit_sum;
  sums.zero_hidden_rows = tokens.zero_hidden_rows;
  sums.sampled_hidden = tokens.sampled_hidden;
  return sums;
}

// Computes G_s G_sᵀ, and G_s - F_s Qᵀ. The sampled tokens' logits are computed again, one block of the vocabulary at a
// time.
absl::Status AddSample(const TensorHead& head, const TensorTokenSums& tokens, const TensorSample& sample,
                       Communicator& tensor, HeadSums& sums) {
  const int64_t count = sample.count();
  const LogitGradientTokens sampled = sample.All();
  const int64_t step = std::clamp<int64_t>(kChunkLogits / count, 64, 8192);
  Stream stream;
  Matrix block(count, step);
  sums.sample_gram = Matrix::Zero(count, count);
  LostPart lost(tokens.sampled_projected, head.width());
  for (const TensorHead::Shard& shard : head.shards()) {
    for (int64_t row = 0; row < shard.rows.size(); row += step) {
      const int64_t rows = std::min(step, shard.rows.size() - row);
      const Tensor gradient = TensorOf(block).ColumnSlice(0, rows);
      ISTHMUS_RETURN_IF_ERROR(FormLogitGradient(sampled, head.LogitRowsOf(shard).Slice(row, rows),
                                                shard.rows.begin + row, gradient, stream));
      ISTHMUS_RETURN_IF_ERROR(Matmul(
          {.a = gradient, .b = gradient, .c = TensorOf(sums.sample_gram), .transpose_b = true, .accumulate = true},
          stream));
      ISTHMUS_RETURN_IF_ERROR(
          lost.Add(gradient, TensorOf(shard.basis).RowSlice(row, rows), shard.factor().RowSlice(row, rows), stream));
    }
  }
  ISTHMUS_RETURN_IF_ERROR(SumMatrix(tensor, sums.sample_gram));
  ISTHMUS_RETURN_IF_ERROR(lost.Sum(tensor));
  const double largest = head.rank() > 0 ? head.factor().singular_values(0) : 0;
  sums.self_test = {.energy = sums.sample_gram.trace(),
                    .retained = sums.token.sampled_retained,
                    .lost = lost.energy(),
                    .lost_passed_on = lost.PassedOn(head.down(), largest)};
  return absl::OkStatus();
}

// Adds shards, buckets and the directions of the head's rows. Returns B_UᵀB_U, which the step's update needs.
absl::StatusOr<Matrix> AddVocabulary(const HeadTensors& tensors, const TensorHead& head, const TensorTokenSums& tokens,
                                     Communicator& tensor, HeadSums& sums) {
  const std::vector<uint8_t> bucket_of = FrequencyBuckets(tensors.counts);
  PartEnergies parts(tensors.shards.size());
  std::vector<double> bucket_rows(kFrequencyBuckets, 0.0);
  Matrix gradient_gram = Matrix::Zero(head.width(), head.width());
  Eigen::VectorXd head_unit_sum = Eigen::VectorXd::Zero(head.width());
  double zero_rows = 0;
  const int64_t rank = head.rank();
  Stream stream;
  for (size_t i = 0; i < head.shards().size(); ++i) {
    const TensorHead::Shard& shard = head.shards()[i];
    const ConstTensor gradient = TensorOf(tokens.shards[i].gradient);
    ISTHMUS_RETURN_IF_ERROR(
        Gram({.x = gradient, .y = gradient, .c = TensorOf(gradient_gram), .workspace = {}}, stream));
    head_unit_sum += UnitRowSum(ConstViewOf(shard.weight));
    zero_rows += static_cast<double>(ZeroRows(ConstViewOf(shard.weight)));
    // The retained energy of row v is q_v (FᵀF) q_vᵀ.
    const Matrix kept = shard.basis.leftCols(rank) * tokens.projected_gram.topLeftCorner(rank, rank);
    for (int64_t row = 0; row < shard.rows.size(); ++row) {
      const double retained = kept.row(row).dot(shard.basis.row(row).head(rank));
      const size_t bucket = bucket_of[static_cast<size_t>(shard.rows.begin + row)];
      parts.retained_shards[tensors.first_shard + i] += retained;
      parts.buckets[bucket] += tokens.shards[i].energy(row);
      parts.retained_buckets[bucket] += retained;
      ++bucket_rows[bucket];
    }
  }
  ISTHMUS_RETURN_IF_ERROR(SumMatrix(tensor, gradient_gram));
  PackedSum packed;
  parts.AddTo(packed);
  packed.Add(absl::MakeSpan(bucket_rows));
  packed.Add(absl::MakeSpan(head_unit_sum.data(), static_cast<size_t>(head_unit_sum.size())));
  packed.Add(zero_rows);
  ISTHMUS_RETURN_IF_ERROR(packed.Reduce(tensor));
  parts.shards = tokens.shard_energy;  // every tensor rank has them all
  sums.head_unit_sum = head_unit_sum;
  sums.zero_head_rows = static_cast<int64_t>(zero_rows);
  std::vector<int64_t> shard_rows;
  for (const Range& rows : tensors.shards) shard_rows.push_back(rows.size());
  sums.shards = parts.ShardParts(shard_rows);
  sums.buckets = parts.BucketParts({bucket_rows.begin(), bucket_rows.end()});
  return gradient_gram;
}

absl::Status AddUpdate(const TensorScales& scales, const TensorHead& head, const TensorTokenSums& tokens,
                       const Matrix& gradient_gram, HeadSums& sums) {
  const int64_t width = head.width(), hidden_width = head.hidden_width();
  TensorPlacer sizes;
  HeadUpdateMemory::Place(width, hidden_width, head.has_down(), sizes);
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate("head update", sizes.layout().bytes(), Device::kCpu));
  TensorPlacer placer(&arena);
  const HeadUpdateMemory memory = HeadUpdateMemory::Place(width, hidden_width, head.has_down(), placer);
  const Eigen::MatrixXd& transform = head.factor().transform;
  const Matrix signal_gram = transform.transpose() * tokens.projected_gram * transform;
  const Matrix signal_hidden = transform.transpose() * tokens.projected_hidden;
  const Matrix head_gram = transform.transpose() * transform;
  Matrix step;
  if (!scales.up.empty()) {
    std::vector<int> twice = scales.up;
    for (int& exponent : twice) exponent = 2 * (exponent - scales.up_exponent);
    step = ScaledRows(signal_hidden, twice);
  }
  const auto if_any = [](const Matrix& matrix) { return matrix.size() > 0 ? TensorOf(matrix) : ConstTensor(); };
  const TensorScales::UpdateWeights weights = scales.ForUpdate();
  sums.update_weights = weights;
  Stream stream;
  ISTHMUS_ASSIGN_OR_RETURN(sums.update, SumUpdate({.head_gram = TensorOf(head_gram),
                                                   .signal_gram = TensorOf(signal_gram),
                                                   .signal_hidden = TensorOf(signal_hidden),
                                                   .hidden_gram = TensorOf(tokens.hidden_gram),
                                                   .gradient_gram = TensorOf(gradient_gram),
                                                   .down = if_any(head.down()),
                                                   .hidden_weight = weights.hidden,
                                                   .head_weight = weights.head,
                                                   .down_weight = weights.down,
                                                   .step_down = if_any(head.step_down()),
                                                   .step = if_any(step)},
                                                  memory, stream));
  return absl::OkStatus();
}

// Has no figures where G_∥ was not measured.
HeadIntervals IntervalsOf(const HeadTensors& tensors, const TensorHead& head, const TensorTokenSums& tokens,
                          const HeadFigures& figures) {
  if (!figures.not_measured.empty()) return {};
  return ResampledIntervals(tokens.blocks, tensors.resamples, head.rank(), tensors.vocabulary);
}

// Checks that there is something to resample, and that it takes minutes at most.
absl::Status CheckBlocks(const HeadTensors& tensors) {
  if (tensors.resamples == 0) return absl::OkStatus();
  const int64_t blocks = BlockEnergies::Count(tensors.tokens, tensors.block_tokens);
  if (blocks < 2) {
    return absl::InvalidArgumentError(absl::StrCat("intervals need two blocks of tokens to resample; ", tensors.tokens,
                                                   " tokens are one block of ", tensors.block_tokens,
                                                   "; use more tokens or shorter blocks"));
  }
  if (blocks <= kMostResampledBlocks / tensors.resamples) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(tensors.resamples, " resamples of ", blocks, " blocks of ",
                                                 tensors.block_tokens, " tokens are too many; accepts a product of ",
                                                 kMostResampledBlocks, "; use longer blocks or fewer resamples"));
}

}  // namespace

absl::StatusOr<HeadFigures> DecomposeTensors(const HeadTensors& tensors, Communicator& tensor, Communicator& data) {
  ISTHMUS_RETURN_IF_ERROR(CheckBlocks(tensors));
  ISTHMUS_ASSIGN_OR_RETURN(const TensorScales scales, TensorScales::Of(tensors, tensor, data));
  ISTHMUS_ASSIGN_OR_RETURN(const TensorHead head, TensorHead::Make(tensors, scales, tensor));
  ISTHMUS_ASSIGN_OR_RETURN(const TensorTokenSums tokens, SumTensorTokens(tensors, scales, head, tensor, data));
  HeadSums sums = SumsOf(tensors, scales, head, tokens);
  const TensorSample sample(head, tokens, tensors.tokens, tensors.form);
  ISTHMUS_RETURN_IF_ERROR(AddSample(head, tokens, sample, tensor, sums));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix gradient_gram, AddVocabulary(tensors, head, tokens, tensor, sums));
  ISTHMUS_RETURN_IF_ERROR(AddUpdate(scales, head, tokens, gradient_gram, sums));
  HeadFigures figures = MakeMeasurement(sums);
  if (tensors.equal_norm_steps) {
    ISTHMUS_ASSIGN_OR_RETURN(figures.equal_norm_steps,
                             TakeEqualNormSteps(head, tokens, sample, sums.sample_gram, tensor, data));
  }
  if (tensors.resamples > 0) figures.intervals = IntervalsOf(tensors, head, tokens, figures);
  if (tensors.control_draws > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(figures.controls, MeasureControls(tensors, scales, head, tokens, figures, tensor, data));
  }
  return figures;
}

}  // namespace isthmus
