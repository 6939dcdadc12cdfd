// The run configuration: loaded from a text-format file and `--set` overrides, checked, resolved.
#ifndef ISTHMUS_RUNTIME_CONFIG_H_
#define ISTHMUS_RUNTIME_CONFIG_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>

#include "proto/config.pb.h"

namespace isthmus {

// Most bytes of a configuration file.
inline constexpr int64_t kMostConfigBytes = int64_t{16} << 20;

// Reads `path` and applies overrides "path.to.field=value" in order. A repeated field's value is a comma-separated list
// that replaces the field; "field+=value" appends to it. Numbers must be finite. Errors: NotFound or PermissionDenied
// for the file. InvalidArgument if the file has more than kMostConfigBytes, or if its text is no configuration, with
// "file:line:column: …". InvalidArgument naming an override, what was found and what is accepted.
absl::StatusOr<proto::RunConfig> LoadConfig(const std::string& path, absl::Span<const std::string> overrides);
// Reads the configuration that a run has left in its folder. Errors as LoadConfig; InvalidArgument for a pipe, a device
// or a folder in its place, which nobody has chosen to read.
absl::StatusOr<proto::RunConfig> LoadRunConfig(const std::string& folder);

// The same from text; `source` names it in messages.
absl::StatusOr<proto::RunConfig> ParseConfig(const std::string& text, absl::string_view source,
                                             absl::Span<const std::string> overrides);

// Fills every default, so that the configuration states every field, and rejects impossible settings:
// InvalidArgument "source: field: what was found; what is accepted". model.vocabulary may still be 0: the token
// shards decide it, see ResolveVocabulary.
absl::Status ResolveConfig(proto::RunConfig& config, int world_size, absl::string_view source);

// Once the shards are open: takes their vocabulary where the configuration leaves it open, else they must agree.
absl::Status ResolveVocabulary(proto::RunConfig& config, int64_t shard_vocabulary, absl::string_view source);

// Text format, for the resolved copy in the run folder. ParseConfig reads it back.
std::string ConfigText(const proto::RunConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CONFIG_H_
