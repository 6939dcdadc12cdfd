// Files of token clusters: int32 .npy arrays [V] with the cluster of each token.
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTER_FILE_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTER_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

// Writes the clusters to a path that a user gave. Errors: by errno, naming the path.
absl::Status WriteTokenClusters(const std::string& path, absl::Span<const int32_t> cluster_of);

// Reads the cluster of each token, [vocabulary]. The largest number says how many clusters there are, and each smaller
// number occurs. Errors: those of NpyArray; InvalidArgument naming the path, what was found and what is accepted. The
// file may have another dtype or shape, numbers that are no cluster's, or a number that no token has.
absl::StatusOr<std::vector<int32_t>> ReadTokenClusters(const std::string& path, int64_t vocabulary);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTER_FILE_H_
