// A named stretch of the host's time line in a GPU profiler (NVTX): what the work started in it belongs to. A recorder
// of work gets the name, too (runtime/work_recorder.h). Costs two comparisons on the CPU. Work that is replayed
// (runtime/captured_work.h) shows the ranges of its capture only.
#ifndef ISTHMUS_RUNTIME_TRACE_RANGE_H_
#define ISTHMUS_RUNTIME_TRACE_RANGE_H_

#include <cstdint>

#include "runtime/stream.h"

namespace isthmus {

class TraceRange {
 public:
  // From here to the end of the object, which `name` outlives. "name index", or "name" without an index.
  TraceRange(const Stream& stream, const char* name, int64_t index = -1);
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;

 private:
  const bool open_;
  WorkRecorder* const recorder_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TRACE_RANGE_H_
