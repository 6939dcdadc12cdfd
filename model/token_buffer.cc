#include "model/token_buffer.h"

#include <cstring>

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

ArenaLayout TokenBuffer::Layout(int64_t tokens, Device device) {
  ArenaLayout layout;
  if (device == Device::kCuda) layout.Add("tokens", DType::kInt32, 1, tokens);
  return layout;
}

absl::Status TokenBuffer::Reserve(int64_t tokens, const Stream& stream) {
  const int64_t bytes = Layout(tokens, stream.device()).bytes();
  if (memory_.bytes() >= bytes) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(memory_, Arena::Allocate("tokens of a micro-batch", bytes, stream));
  return absl::OkStatus();
}

absl::Status TokenBuffer::Take(const Tensor& tokens, const Stream& stream) {
  tokens_ = tokens;
  if (stream.device() == Device::kCpu || stream.dry()) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(tokens_, staging_.Room(tokens.dtype, tokens.rows, tokens.columns, stream));
  std::memcpy(tokens_.data, tokens.data, static_cast<size_t>(tokens.bytes()));
  return absl::OkStatus();
}

absl::StatusOr<Tensor> TokenBuffer::Part(int64_t begin, int64_t count, const Stream& stream) {
  const Tensor part = tokens_.ColumnSlice(begin, count);
  if (stream.device() == Device::kCpu) return part;
  ISTHMUS_RETURN_IF_ERROR(Reserve(part.size(), stream));
  const Tensor copy = memory_.At(0, part.dtype, part.rows, count);
  for (int64_t row = 0; row < part.rows; ++row) {
    ISTHMUS_RETURN_IF_ERROR(StartCopyFromHost(part.RowSlice(row, 1), copy.RowSlice(row, 1), stream));
  }
  return copy;
}

absl::StatusOr<Tensor> TokenBuffer::OnDevice(const Tensor& tokens, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(Take(tokens, stream));
  return Part(0, tokens.columns, stream);
}

}  // namespace isthmus
