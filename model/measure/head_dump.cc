#include "model/measure/head_dump.h"

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Copies a tensor to host memory, as fp32 or fp64.
absl::Status CopyWidened(const Tensor& from, const Tensor& to, const Stream& stream) {
  if (from.dtype == to.dtype) return CopyToHost(from, to, stream);
  std::vector<char> bytes(static_cast<size_t>(from.bytes()));
  const Tensor copy(bytes.data(), from.dtype, from.rows, from.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(from, copy, stream));
  Stream host;
  return Cast({.x = copy, .y = to}, host);
}

HeadDump::Matrix MakeRoom(DType type, int64_t rows, int64_t columns) {
  return {type, rows, columns, std::vector<char>(static_cast<size_t>(rows * columns * SizeOf(type)))};
}

}  // namespace

absl::Status HeadDump::Begin(const HeadView& head, const Tensor& host_targets, int64_t width, const Stream& stream) {
  const DType type = AccumulationType(head.weight.dtype);
  const auto copy = [&](const Tensor& from, Matrix& to) {
    to = MakeRoom(type, from.rows, from.columns);
    return CopyWidened(from, to.tensor(), stream);
  };
  ISTHMUS_RETURN_IF_ERROR(copy(head.weight, weight));
  if (head.down != nullptr) ISTHMUS_RETURN_IF_ERROR(copy(head.down->weight, down));
  if (head.bias.defined()) ISTHMUS_RETURN_IF_ERROR(copy(head.bias, bias));
  classes = head.classes == nullptr ? std::vector<int32_t>() : head.classes->rows;
  hidden = MakeRoom(type, host_targets.columns, width);
  const auto* ids = host_targets.As<int32_t>();
  targets.assign(ids, ids + host_targets.columns);
  filled = 0;
  return absl::OkStatus();
}

absl::Status HeadDump::Add(const Tensor& hidden_states, const Stream& stream) {
  const Tensor part = hidden.tensor().RowSlice(filled, hidden_states.rows);
  filled += hidden_states.rows;
  return CopyWidened(hidden_states, part, stream);
}

}  // namespace isthmus
