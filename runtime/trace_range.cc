#include "runtime/trace_range.h"

#include "runtime/cuda/trace.h"

namespace isthmus {

TraceRange::TraceRange(const Stream& stream, const char* name, int64_t index)
    : open_(stream.device() == Device::kCuda) {
  if (open_) cuda::PushRange(name, index);
}

TraceRange::~TraceRange() {
  if (open_) cuda::PopRange();
}

}  // namespace isthmus
