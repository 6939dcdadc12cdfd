#include "model/measure/tensor_chunk.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <iterator>

#include "model/measure/logit_gradient.h"
#include "model/measure/tensor_decomposition.h"
#include "ops/cross_entropy.h"
#include "runtime/status.h"

namespace isthmus {

TensorChunk::TensorChunk(const HeadTensors& tensors, const TensorHead& head, Communicator& tensor)
    : tensors_(tensors), head_(head), tensor_(tensor) {
  int64_t widest = 1;
  for (const Range& rows : tensors.shards) widest = std::max(widest, rows.size());
  capacity_ = std::clamp<int64_t>(kChunkLogits / widest, 8, 512);
  for (const TensorHead::Shard& shard : head.shards()) logits_.emplace_back(capacity_, shard.rows.size());
}

absl::StatusOr<TensorChunk::Loss> TensorChunk::Form(const Matrix& input, const ConstTensor& targets,
                                                    int64_t first_token) {
  const int64_t tokens = input.rows(), local = std::ssize(logits_), all = std::ssize(tensors_.shards);
  const LogitGradientTokens rows = {.input = TensorOf(input), .exponent = head_.LogitExponent()};
  Matrix statistics(local * tokens, kCrossEntropyStatistics), gathered(all * tokens, kCrossEntropyStatistics);
  for (int64_t i = 0; i < local; ++i) {
    const TensorHead::Shard& shard = head_.shards()[static_cast<size_t>(i)];
    const Tensor logits = gradient(static_cast<size_t>(i), tokens);
    ISTHMUS_RETURN_IF_ERROR(FormLogits(rows, head_.LogitRowsOf(shard), logits, stream_));
    bad_logit_.Search(ConstViewOf(logits), first_token, shard.rows.begin);
    ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics({.logits = logits,
                                                    .targets = targets,
                                                    .first_row = shard.rows.begin,
                                                    .form = tensors_.form,
                                                    .statistics = TensorOf(statistics).RowSlice(i * tokens, tokens)},
                                                   stream_));
  }
  ISTHMUS_RETURN_IF_ERROR(tensor_.AllGather(TensorOf(statistics), TensorOf(gathered)));
  Loss result{Matrix(1, tokens), Matrix(1, tokens), Matrix(all, tokens)};
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyCombine({.gathered = TensorOf(gathered),
                                               .shards = all,
                                               .form = tensors_.form,
                                               .loss = TensorOf(result.loss),
                                               .log_sum_exp = TensorOf(result.log_sum_exp),
                                               .energy = TensorOf(result.energy)},
                                              stream_));
  bad_loss_.Search(ConstViewOf(TensorOf(result.loss).Reshape(tokens, 1)), first_token, 0);
  for (int64_t i = 0; i < local; ++i) {
    const Tensor logits = gradient(static_cast<size_t>(i), tokens);
    ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = logits,
                                                  .targets = targets,
                                                  .first_row = head_.shards()[static_cast<size_t>(i)].rows.begin,
                                                  .loss = TensorOf(result.loss),
                                                  .log_sum_exp = TensorOf(result.log_sum_exp),
                                                  .form = tensors_.form,
                                                  .scale = 1.0 / static_cast<double>(tensors_.tokens),
                                                  .grad_logits = logits},
                                                 stream_));
  }
  return result;
}

absl::Status TensorChunk::ExpectFinite(Communicator& data) const {
  ISTHMUS_ASSIGN_OR_RETURN(const auto logit, bad_logit_.First(tensor_, data));
  if (logit.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensors_.hidden_name, ": row ", logit->row, " times row ", logit->column, " of ",
                     tensors_.head_name, head_.has_down() ? absl::StrCat(" by way of ", tensors_.down_name) : "",
                     " is a logit of ", logit->value, "; needs logits within the range of float64"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const auto loss, bad_loss_.First(tensor_, data));
  if (!loss.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(tensors_.hidden_name, ": row ", loss->row, " has a loss of ",
                                                 loss->value, " with ", tensors_.head_name,
                                                 "; needs logits whose differences lie within the range of float64"));
}

}  // namespace isthmus
