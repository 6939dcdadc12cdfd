#include "model/embedding.h"

#include "ops/embedding.h"
#include "runtime/status.h"

namespace isthmus {

void Embedding::Declare(ParameterBuilder& parameters) {
  parameter_ = parameters.Add({.name = "embedding.weight",
                               .role = ParameterRole::kEmbedding,
                               .rows = setting_->vocabulary,
                               .columns = setting_->width,
                               .sharding = Sharding::kRows,
                               .shard = setting_->Share(setting_->vocabulary),
                               .init_std = setting_->init_std});
}

void Embedding::Bind(const ParameterStore& parameters) {
  weight_ = parameters.Weight(parameter_);
  gradient_ = parameters.Gradient(parameter_);
}

void Embedding::Place(TensorPlacer& placer) {
  if (setting_->training) workspace_ = placer.Place("embedding", DType::kInt32, 1, 2 * setting_->batch.tokens());
}

absl::Status Embedding::Forward(const Tensor& ids, const Tensor& y, Stream& stream) const {
  return EmbeddingForward(
      {.ids = ids, .table = weight_, .first_row = setting_->Share(setting_->vocabulary).begin, .y = y}, stream);
}

absl::Status Embedding::Backward(const Tensor& ids, const Tensor& grad_y, const Tensor& observed,
                                 Stream& stream) const {
  for (const Tensor& table : {gradient_, observed}) {
    if (!table.defined()) continue;
    ISTHMUS_RETURN_IF_ERROR(EmbeddingBackward({.ids = ids,
                                               .grad_y = grad_y,
                                               .first_row = setting_->Share(setting_->vocabulary).begin,
                                               .grad_table = table,
                                               .workspace = workspace_},
                                              stream));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
