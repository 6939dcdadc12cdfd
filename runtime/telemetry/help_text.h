// The meaning of a telemetry record's field, in words: its comment in proto/telemetry.proto.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_
#define ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_

#include <google/protobuf/descriptor.h>

#include <string>

namespace isthmus {

// Returns one line: the field's comment, or its name in words if it has none.
std::string HelpText(const google::protobuf::FieldDescriptor& field);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_
