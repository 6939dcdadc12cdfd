#include "model/measure/tensor_head.h"

#include <utility>

#include "model/measure/tall_qr.h"
#include "model/measure/tensor_decomposition.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

std::vector<int> Negative(std::vector<int> exponents) {
  for (int& exponent : exponents) exponent = -exponent;
  return exponents;
}

}  // namespace

TensorHead::TensorHead(const HeadTensors& tensors, const TensorScales& scales)
    : scales_(scales),
      width_(tensors.weights.front().columns),
      hidden_width_(tensors.down.defined() ? tensors.down.columns : width_) {
  for (size_t i = 0; i < tensors.weights.size(); ++i) {
    Shard& shard = shards_.emplace_back();
    shard.rows = tensors.shards[tensors.first_shard + i];
    shard.weight = tensors.weights[i];
    if (!tensors.biases.empty()) shard.bias = tensors.biases[i];
    if (!scales.up.empty()) {
      shard.scaled = ScaledColumns(ConstViewOf(shard.weight), Negative(scales.up));
    } else if (scales.head != 0) {
      shard.scaled = TimesPowerOfTwo(ConstViewOf(shard.weight), -scales.head);
    }
  }
  if (!tensors.down.defined()) return;
  down_ = ScaledRows(ConstViewOf(tensors.down), Negative(scales.down));
  if (!scales.up.empty()) step_down_ = TimesPowerOfTwo(ConstViewOf(tensors.down), -scales.down_exponent);
}

absl::StatusOr<TensorHead> TensorHead::Make(const HeadTensors& tensors, const TensorScales& scales,
                                            Communicator& tensor) {
  TensorHead head(tensors, scales);
  std::vector<ConstTensor> factors;
  for (const Shard& shard : head.shards_) factors.push_back(shard.factor());
  ISTHMUS_ASSIGN_OR_RETURN(const ShardedQr qr, ShardedQr::Factor(factors, tensors.first_shard, tensors.shards, tensor));
  head.factor_ = FactorHead(qr.r(), head.down_, tensors.vocabulary);
  std::vector<Matrix> bases = qr.Apply(head.factor_.rotation);
  for (size_t i = 0; i < bases.size(); ++i) head.shards_[i].basis = std::move(bases[i]);
  return head;
}

Matrix TensorHead::Input(const Matrix& hidden) const {
  return has_down() ? Matrix(TimesPowerOfTwo(hidden, -scales_.hidden) * down_.transpose()) : hidden;
}

Matrix TensorHead::GradientInput(const Matrix& hidden, const Matrix& input) const {
  if (step_down_.size() > 0) return hidden * step_down_.transpose();
  return !has_down() && scales_.hidden != 0 ? hidden : input;
}

}  // namespace isthmus
