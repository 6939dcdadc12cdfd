#include "launch/commands.h"
namespace isthmus {
absl::Status SampleCommand(absl::Span<const std::string>, CommandContext&) { return absl::OkStatus(); }
}  // namespace isthmus
