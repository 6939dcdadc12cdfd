#include "runtime/trace_range.h"

#include "runtime/cuda/trace.h"
#include "runtime/work_recorder.h"

namespace isthmus {

TraceRange::TraceRange(const Stream& stream, const char* name, int64_t index)
    : open_(stream.on_gpu()), recorder_(stream.recorder()) {
  if (open_) cuda::PushRange(name, index);
  if (recorder_ != nullptr) recorder_->EnterPlace(name);
}

TraceRange::~TraceRange() {
  if (recorder_ != nullptr) recorder_->LeavePlace();
  if (open_) cuda::PopRange();
}

}  // namespace isthmus
