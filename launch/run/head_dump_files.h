// Writes a step's dumped head as .npy files, for `isthmus decompose` or any other program.
#ifndef ISTHMUS_LAUNCH_RUN_HEAD_DUMP_FILES_H_
#define ISTHMUS_LAUNCH_RUN_HEAD_DUMP_FILES_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>

#include "model/measure/head_dump.h"
#include "parallel/mesh.h"

namespace isthmus {

// Writes folder/hidden.npy [N, D], targets.npy [N], head.npy [V, D] or head-up.npy [V, R] and head-down.npy [R, D], and
// counts.npy [V]; for a head with a bias head-bias.npy [V, 1]. The counts say how often each token occurs in the training shards. A step with K other classes has
// head.npy [K, D], counts.npy [K], targets among the classes, and classes.npy [K]: the row of the vocabulary of each.
// Rank 0 writes what all ranks hold, one rank's part after the other. Collective over the mesh; fails on all ranks or
// none.
absl::Status WriteHeadDump(const std::string& folder, HeadDump& dump, absl::Span<const uint64_t> counts,
                           const Mesh& mesh);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_HEAD_DUMP_FILES_H_
