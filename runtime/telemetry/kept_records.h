// Finds the records of an earlier start's metrics.jsonl that a run continues from.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace isthmus {

// The steps of a run whose records are sought.
struct StepsSoFar {
  int64_t last = std::numeric_limits<int64_t>::max();
  int64_t tokens_each = 0;  // the same in all starts of a run; 0: not known, and not checked
};

struct KeptRecords {
  struct Line {
    int64_t begin = 0, bytes = 0;  // with the line's end, if it has one
    int64_t number = 1;            // of the line in the file
    int64_t step = -1;
  };
  std::vector<Line> lines;  // the records up to the requested step
  bool last_has_end = true;
  // The reason why the file must not be cut: it could not be read to its end, or some of its lines are damaged. The
  // text is empty if the file was read and understood; then `lines` are its beginning.
  std::string trouble;
};

// A line is sound if it is a whole record with the tokens of its step. Its step must also be above those of the sound
// lines before it. A damaged digit of a step shows in its tokens or in the order. A broken last line is left by a crash
// and is no trouble. A missing file has no records. Memory grows with the whole records. Damaged lines take none,
// except for one line of bounded length.
KeptRecords FindRecords(const std::string& path, const StepsSoFar& steps);

// Returns the step of one line; -1 if it is not a whole record.
int64_t RecordStep(const std::string& line);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_KEPT_RECORDS_H_
