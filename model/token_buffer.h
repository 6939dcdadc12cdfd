// Holds tokens as a device sees them. On a GPU the tokens of a step wait in page-locked host memory. Those of one
// micro-batch at a time are copied to the device, in the order of the stream, always to the same address.
#ifndef ISTHMUS_MODEL_TOKEN_BUFFER_H_
#define ISTHMUS_MODEL_TOKEN_BUFFER_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class TokenBuffer {
 public:
  // Describes the memory for `tokens` tokens on the device: none on the CPU.
  static ArenaLayout Layout(int64_t tokens, Device device);
  // Allocates it, so that steps don't have to.
  absl::Status Reserve(int64_t tokens, const Stream& stream);
  // Returns the bytes held on the device.
  int64_t bytes() const { return memory_.bytes(); }

  // Takes int32 [rows, n] in host memory, contiguous. On the CPU it keeps a view of it, on a GPU a copy, so that it may be used again.
  // The stream must have finished with what was taken before. Errors: ResourceExhausted.
  absl::Status Take(const Tensor& tokens, const Stream& stream);
  // Returns tokens [begin, begin + count) of each row on the stream's device; valid until the next call. The address
  // changes only if there are more than ever before. Errors: ResourceExhausted.
  absl::StatusOr<Tensor> Part(int64_t begin, int64_t count, const Stream& stream);

  // Does both, for all of `tokens`.
  absl::StatusOr<Tensor> OnDevice(const Tensor& tokens, const Stream& stream);

 private:
  HostBuffer staging_;  // of a GPU
  Tensor tokens_;
  Arena memory_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TOKEN_BUFFER_H_
