// Whether a manifest describes what there can be. A right checksum says that the bytes are those that were written, not
// who wrote them: no length of it is believed.
#ifndef ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_
#define ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "proto/checkpoint.pb.h"

namespace isthmus {

// A model of a trillion parameters on ten thousand ranks needs half of it.
inline constexpr int64_t kMostManifestBytes = int64_t{1} << 26;
// Chunks are read as a whole. They are written with 4 MiB, or one row.
inline constexpr int64_t kMostChunkBytes = int64_t{1} << 30;
// Of version 1, which has one for a slice.
inline constexpr int64_t kMostSliceBytes = int64_t{1} << 36;
// Statistics are made of whole rows.
inline constexpr int64_t kMostColumns = int64_t{1} << 27;
// Of steps, samples, tokens: a product with a step's tokens does not overflow, and fp64 has them exactly.
inline constexpr int64_t kMostCounted = int64_t{1} << 53;
// Batches, over all refusals of a run: their numbers are listed in memory.
inline constexpr int64_t kMostPassedOver = int64_t{1} << 24;
// What config.stability.spike.window accepts.
inline constexpr int kMostRemembered = 65536;

// Whether the counts and the state of stability are possible; names and sizes are in bounds; every tensor and file is
// there once; the slices of a tensor lie in it and hold each element once; and the bytes of slices lie in their files
// and are nobody else's. Slices of version 1 become slices of one chunk. `path`: the manifest's, for messages. Errors:
// DataLoss naming tensor or field, what was found and what is accepted.
absl::Status CheckManifest(proto::CheckpointManifest& manifest, const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_MANIFEST_CHECK_H_
