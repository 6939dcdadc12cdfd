// Which records of an earlier start's metrics.jsonl a run goes on from.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

struct KeptRecords {
  struct Line {
    int64_t begin = 0, bytes = 0;  // with its end, where it has one
    int64_t step = -1;             // -1: it is no whole record
    int64_t tokens = -1;           // -1: it has none
  };
  std::vector<Line> lines;  // the records up to the step that was asked for
  bool last_has_end = true;
  // Why the file is not to be cut: it could not be read to its end, or lines of it are damaged. Empty: it was read and
  // understood, and `lines` are its beginning.
  std::string trouble;
};

// A line is sound when it is a whole record whose step is above those of the sound ones before it, and whose number of
// tokens is as many times its step as in most of the others: a damaged digit of a step shows in one of them. A last
// line that breaks off is what a crash leaves, and no trouble. No file at all: no records.
KeptRecords FindRecords(const std::string& path, int64_t last_step);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
