// Checks that a manifest describes a checkpoint that can exist. A right checksum shows that the bytes are those that
// were written. It does not show who wrote them, so no length in them is trusted.
#ifndef ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_
#define ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "proto/checkpoint.pb.h"

namespace isthmus {

// A model of a trillion parameters on ten thousand ranks needs half of this.
inline constexpr int64_t kMostManifestBytes = int64_t{1} << 26;
// A chunk is read as a whole. The program writes chunks of 4 MiB, or of one row.
inline constexpr int64_t kMostChunkBytes = int64_t{1} << 30;
// This is the limit for version 1, which has one chunk per slice.
inline constexpr int64_t kMostSliceBytes = int64_t{1} << 36;
// Statistics are computed over whole rows.
inline constexpr int64_t kMostColumns = int64_t{1} << 27;
// This is the limit for steps, samples and tokens. fp64 represents them exactly, and their sums do not overflow. Tokens
// of a step are multiplied only with steps that the configuration has; runtime/config_check.cc bounds that product.
inline constexpr int64_t kMostCounted = int64_t{1} << 53;
// This is the limit for batches over all refusals of a run; their numbers are listed in memory.
inline constexpr int64_t kMostPassedOver = int64_t{1} << 24;
// This is the largest value that config.stability.spike.window accepts.
inline constexpr int kMostRemembered = 65536;

// Checks that the counts and the state of stability are possible, and that names and sizes are in bounds. Every tensor
// and file must be listed once. The slices of a tensor must lie in it and hold each element once. The bytes of a slice
// must lie in its file and belong to no other slice. Slices of version 1 become slices of one chunk. `path` is that of
// the manifest, for messages. Errors: DataLoss naming tensor or field, what was found and what is accepted.
absl::Status CheckManifest(proto::CheckpointManifest& manifest, const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_
