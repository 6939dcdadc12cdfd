// The run configuration, loaded from a text-format file and `--set` overrides. This file also has the rules of all
// parts but the model.
#ifndef ISTHMUS_RUNTIME_CONFIG_H_
#define ISTHMUS_RUNTIME_CONFIG_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>

#include "proto/config.pb.h"
#include "runtime/config_rules.h"

namespace isthmus {

// Most bytes of a configuration file.
inline constexpr int64_t kMostConfigBytes = int64_t{16} << 20;

// Reads `path` and applies overrides "path.to.field=value" in order. A repeated field's value is a comma-separated list
// that replaces the field; "field+=value" appends to it. In a list of messages with names, the path goes on with the
// name of an element: "optimizer.groups.head.beta2=0.99". Numbers must be finite. Errors: NotFound or PermissionDenied
// for the file. InvalidArgument if the file has more than kMostConfigBytes, or if its text is no configuration, with
// "file:line:column: …". InvalidArgument naming an override, what was found and what is accepted.
absl::StatusOr<proto::RunConfig> LoadConfig(const std::string& path, absl::Span<const std::string> overrides);
// Reads the configuration that a run has left in its folder. Errors as LoadConfig; InvalidArgument for a pipe, a device
// or a folder in its place, which nobody has chosen to read.
absl::StatusOr<proto::RunConfig> LoadRunConfig(const std::string& folder);

// Does the same from text; `source` names it in messages.
absl::StatusOr<proto::RunConfig> ParseConfig(const std::string& text, absl::string_view source,
                                             absl::Span<const std::string> overrides);

// Fills the defaults of all parts but the model, and checks them: mesh, batch, optimizer, schedule, precision,
// telemetry, checkpoints, stability, data. ResolveConfig (model/resolve.h), the model's entry for the whole
// configuration, calls this function. After a broken rule of the mesh the batch is not looked at.
void ResolveRunSettings(proto::RunConfig& config, int world_size, ConfigRules& rules);

// Returns the text format, for the resolved copy in the run folder. ParseConfig reads it back.
std::string ConfigText(const proto::RunConfig& config);
// Returns the same without fields that have their default: a program with more fields writes the same text.
std::string ShortConfigText(proto::RunConfig config);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CONFIG_H_
