#include "model/heads/lm_head.h"

#include "runtime/status.h"

namespace isthmus {

absl::Status LmHead::Train(const HeadBatch& batch, SoftmaxLoss& loss) {
  ISTHMUS_RETURN_IF_ERROR(Begin(batch.hidden));
  const auto train = [&](int64_t begin, int64_t tokens) -> absl::Status {
    const SoftmaxChunk chunk = {.logits = loss.Logits(tokens, loss.rows().size()),
                                .targets = batch.targets.ColumnSlice(begin, tokens),
                                .first_class = loss.rows().begin};
    ISTHMUS_RETURN_IF_ERROR(Logits(batch.hidden, begin, chunk.logits));
    ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
    Tensor signal;
    if (batch.observed != nullptr) {
      ISTHMUS_RETURN_IF_ERROR(loss.Observe(begin, tokens, *batch.observed));
      if (batch.observed->signal.defined()) signal = batch.observed->signal.RowSlice(begin, tokens);
    }
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor gradient, loss.Gradient(chunk, batch.scale, batch.observed));
    return Backward(batch.hidden, begin, gradient, batch.grad_hidden, signal);
  };
  ISTHMUS_RETURN_IF_ERROR(loss.ForChunks(batch.hidden.rows, train));
  return Finish(batch.hidden, batch.grad_hidden);
}

absl::Status LmHead::Evaluate(const Tensor& hidden, const Tensor& targets, SoftmaxLoss& loss) {
  ISTHMUS_RETURN_IF_ERROR(BeginReading(hidden));
  return loss.ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
    const SoftmaxChunk chunk = {.logits = loss.Logits(tokens, loss.rows().size()),
                                .targets = targets.ColumnSlice(begin, tokens),
                                .first_class = loss.rows().begin};
    ISTHMUS_RETURN_IF_ERROR(Logits(hidden, begin, chunk.logits));
    ISTHMUS_RETURN_IF_ERROR(loss.Add(chunk));
    return loss.Score(begin, chunk);
  });
}

}  // namespace isthmus
