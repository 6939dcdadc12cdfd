// A named stretch of the host's time line in a GPU profiler (NVTX), to which the work started in it belongs. A recorder
// of work gets the name, too (runtime/work_recorder.h). It costs two comparisons on the CPU. Work that is replayed
// (runtime/captured_work.h) shows only the ranges of its capture.
#ifndef ISTHMUS_RUNTIME_TRACE_RANGE_H_
#define ISTHMUS_RUNTIME_TRACE_RANGE_H_

#include <cstdint>

#include "runtime/stream.h"

namespace isthmus {

class TraceRange {
 public:
  // The range lasts from here to the end of the object, which `name` outlives. It is called "name index", or "name"
  // without an index.
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
