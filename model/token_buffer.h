// Tokens as a device sees them.
#ifndef ISTHMUS_MODEL_TOKEN_BUFFER_H_
#define ISTHMUS_MODEL_TOKEN_BUFFER_H_

#include <absl/status/statusor.h>

#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class TokenBuffer {
 public:
  // The memory of `tokens` tokens: none on the CPU.
  static ArenaLayout Layout(int64_t tokens, Device device);
  // Allocates it, so that steps don't have to.
  absl::Status Reserve(int64_t tokens, Device device);
  int64_t bytes() const { return memory_.bytes(); }

  // `tokens` int32 [1, n] in host memory. Returns the same tokens on the stream's device: on the CPU `tokens` itself,
  // on a GPU a copy that holds until the next call. Memory grows where n is more than was reserved. Errors:
  // ResourceExhausted.
  absl::StatusOr<Tensor> OnDevice(const Tensor& tokens, const Stream& stream);

 private:
  Arena memory_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TOKEN_BUFFER_H_
