// Finds the records of an earlier start's metrics.jsonl that a run continues from.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

struct KeptRecords {
  struct Line {
    int64_t begin = 0, bytes = 0;  // with the line's end, if it has one
    int64_t step = -1;             // -1: not a whole record
    int64_t tokens = -1;           // -1: the record has none
  };
  std::vector<Line> lines;  // the records up to the requested step
  bool last_has_end = true;
  // Why the file must not be cut: it could not be read to its end, or some of its lines are damaged. Empty if it was
  // read and understood; then `lines` are its beginning.
  std::string trouble;
};

// A line is sound if it is a whole record, its step is above those of the sound lines before it, and its tokens per
// step are those of most lines. A damaged digit of a step shows in the order or in that ratio. A broken last line is
// left by a crash and is no trouble. A missing file has no records.
KeptRecords FindRecords(const std::string& path, int64_t last_step);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
