#include "model/generate/text_generator.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<TextGenerator>> TextGenerator::Create(const proto::RunConfig& config, int64_t window,
                                                                     const Mesh& mesh, Stream& stream,
                                                                     const TokenTables& tables) {
  auto generator = absl::WrapUnique(new TextGenerator(mesh, window, stream));
  ISTHMUS_ASSIGN_OR_RETURN(generator->model_, Model::Build(config, mesh, stream, Purpose::Reading(window), tables));
  generator->vocabulary_ = config.model().vocabulary();
  generator->ids_.resize(static_cast<size_t>(window));
  const auto longest = static_cast<size_t>(ShardOf(generator->vocabulary_, mesh.tensor_ranks(), 0).size());
  generator->shard_logits_.resize(longest);
  generator->gathered_logits_.resize(longest * static_cast<size_t>(mesh.tensor_ranks()));
  generator->logits_.resize(static_cast<size_t>(generator->vocabulary_));
  return generator;
}

absl::Status TextGenerator::GatherLogits(int64_t last, const Tensor& ids) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor computed, model_->loss().LogitsOf(last, model_->backbone().hidden(), ids));
  head_logits_.resize(static_cast<size_t>(computed.bytes()));
  const Tensor logits(head_logits_.data(), computed.dtype, 1, computed.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(computed, logits, stream_));
  for (int64_t i = 0; i < logits.columns; ++i) {
    shard_logits_[static_cast<size_t>(i)] =
        logits.dtype == DType::kFloat64 ? logits.As<double>()[i] : static_cast<double>(logits.As<float>()[i]);
  }
  const auto longest = static_cast<int64_t>(shard_logits_.size());
  const int ranks = mesh_.tensor_ranks();
  ISTHMUS_RETURN_IF_ERROR(
      mesh_.tensor().host().AllGather(Tensor(shard_logits_.data(), DType::kFloat64, 1, longest),
                                      Tensor(gathered_logits_.data(), DType::kFloat64, 1, longest * ranks)));
  for (int rank = 0; rank < ranks; ++rank) {
    const Range rows = ShardOf(vocabulary_, ranks, rank);
    std::copy_n(gathered_logits_.begin() + rank * longest, rows.size(), logits_.begin() + rows.begin);
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> TextGenerator::Next(const std::vector<int32_t>& tokens, TokenSampler& sampler) {
  if (tokens.empty()) return absl::InvalidArgumentError("the text to continue needs at least one token");
  const auto count = std::min(static_cast<int64_t>(tokens.size()), window_);
  std::copy(tokens.end() - count, tokens.end(), ids_.begin());
  // The last token does not see the tokens after it: attention is causal.
  std::fill(ids_.begin() + count, ids_.end(), 0);
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor ids,
                           device_ids_.OnDevice(Tensor(ids_.data(), DType::kInt32, 1, window_), stream_));
  ISTHMUS_RETURN_IF_ERROR(model_->backbone().Forward(ids));
  ISTHMUS_RETURN_IF_ERROR(GatherLogits(count - 1, ids));
  for (const double logit : logits_) {
    if (!std::isfinite(logit)) {
      return absl::AbortedError(
          "the model gives logits that are not finite; its weights come from a run that diverged");
    }
  }
  return sampler.Choose(logits_, tokens.size());
}

}  // namespace isthmus
