// The configuration of a run is made complete and judged as a whole, before anything is made of it. Each rule stands
// beside the part that it judges. Run settings have theirs in runtime/config_check.cc, blocks and heads in the file of
// their kind, families in model/families. Rules that hold for any of them are here.
#ifndef ISTHMUS_MODEL_RESOLVE_H_
#define ISTHMUS_MODEL_RESOLVE_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>

#include "proto/config.pb.h"

namespace isthmus {

// Fills every default, so that the configuration states every field. Rejects impossible settings, and kinds of parts
// that this program does not have. Fields that only other kinds of blocks have are left alone. model.vocabulary may
// stay 0: the token shards decide it, see ResolveVocabulary. `world_size` is the number of ranks that were started.
// Errors: InvalidArgument "source: field: what was found; what is accepted", of the first broken rule.
absl::Status ResolveConfig(proto::RunConfig& config, int world_size, absl::string_view source);

// Is called once the shards are open. Takes their vocabulary if the resolved configuration leaves it open, else they
// must agree. Errors: as ResolveConfig.
absl::Status ResolveVocabulary(proto::RunConfig& config, int64_t shard_vocabulary, absl::string_view source);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_RESOLVE_H_
