#include "model/token_buffer.h"

#include <cstring>

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status TokenBuffer::Take(const Tensor& tokens, const Stream& stream) {
  tokens_ = tokens;
  if (stream.device() == Device::kCpu) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(tokens_, staging_.Room(tokens.dtype, 1, tokens.columns, stream));
  std::memcpy(tokens_.data, tokens.data, static_cast<size_t>(tokens.bytes()));
  return absl::OkStatus();
}

absl::StatusOr<Tensor> TokenBuffer::Part(int64_t begin, int64_t count, const Stream& stream) {
  const Tensor part = tokens_.ColumnSlice(begin, count);
  if (stream.device() == Device::kCpu) return part;
  if (memory_.bytes() < part.bytes()) {
    ISTHMUS_ASSIGN_OR_RETURN(memory_, Arena::Allocate("tokens of a micro-batch", part.bytes(), stream.device()));
  }
  const Tensor copy = memory_.At(0, part.dtype, 1, count);
  ISTHMUS_RETURN_IF_ERROR(StartCopyFromHost(part, copy, stream));
  return copy;
}

absl::StatusOr<Tensor> TokenBuffer::OnDevice(const Tensor& tokens, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(Take(tokens, stream));
  return Part(0, tokens.columns, stream);
}

}  // namespace isthmus
