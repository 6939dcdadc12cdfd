// Exchanges strings between ranks, for set-up and saving.
#ifndef ISTHMUS_PARALLEL_HOST_BYTES_H_
#define ISTHMUS_PARALLEL_HOST_BYTES_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace isthmus {

// Replaces `bytes` on every rank by the root's. Collective.
absl::Status BroadcastBytes(Communicator& communicator, std::string& bytes, int root);

// Returns every rank's bytes, by rank, on every rank. Collective. It costs size() times the longest.
absl::StatusOr<std::vector<std::string>> AllGatherBytes(Communicator& communicator, const std::string& bytes);

// Returns every rank's bytes, by rank, on rank 0, and nothing on others. Collective.
absl::StatusOr<std::vector<std::string>> GatherBytes(Communicator& communicator, const std::string& bytes);

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_HOST_BYTES_H_
