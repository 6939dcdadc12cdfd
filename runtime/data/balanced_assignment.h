// Assigns rows to columns of limited room, such that the sum of their scores is nearly the largest.
#ifndef ISTHMUS_RUNTIME_DATA_BALANCED_ASSIGNMENT_H_
#define ISTHMUS_RUNTIME_DATA_BALANCED_ASSIGNMENT_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

namespace isthmus {

// Returns the column of each row, [N]. Column c gets at most room[c] rows.
//
//   scores     [N, C]  finite
//   room       [C]     0 or more, with a sum of N at least
//   tolerance  above 0; the sum of the scores may be lower than the largest by N·tolerance. This holds if the room's
//              sum is N, and if prices settle within 256 bids per row. Later rows take the best column with room.
//
// Rows bid for columns (Bertsekas and Castañon 1989, "The auction algorithm for the transportation problem"). A row bids
// its gain over its second choice, and the lowest bid of a full column gives way. Deterministic.
std::vector<int32_t> AssignBalanced(absl::Span<const float> scores, absl::Span<const int64_t> room, double tolerance);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_BALANCED_ASSIGNMENT_H_
