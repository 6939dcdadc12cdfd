// Chooses the GPU's algorithms for a run's matrix products (ops/cuda/matmul_algorithms.h). They are measured before the
// first step, agreed on by all ranks, kept in the run folder.
#ifndef ISTHMUS_LAUNCH_RUN_MATMUL_SEARCH_H_
#define ISTHMUS_LAUNCH_RUN_MATMUL_SEARCH_H_

#include <absl/status/status.h>

#include <functional>
#include <string>

#include "parallel/communicator.h"
#include "runtime/log.h"
#include "runtime/stream.h"

namespace isthmus {

// FOLDER/matmul-algorithms.json holds the known ones. `rehearse` runs every product of a step once, collectively, with
// results that nobody needs. Products that are not in the file are measured meanwhile. If several ranks measured a
// product, the lowest rank's choice holds for all. Rank 0 writes the file if it grew. From then on nothing is measured:
// a product that is still unknown takes the library's first proposal.
//
// A run that finds the file of another in its folder computes as that one did. A file that can't be read, or has
// another format, is noted in the log and replaced. A file that can't be written is noted, too. On the CPU nothing
// happens. Collective. Errors: of `rehearse`.
absl::Status ChooseMatmulAlgorithms(const std::string& folder, Communicator& world, Stream& stream, Log& log,
                                    const std::function<absl::Status()>& rehearse);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_MATMUL_SEARCH_H_
