// What a field of a telemetry record means, in words: its comment in proto/telemetry.proto.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_
#define ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_

#include <google/protobuf/descriptor.h>

#include <string>

namespace isthmus {

// One line: the field's comment; its name in words where it has none.
std::string HelpText(const google::protobuf::FieldDescriptor& field);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_HELP_TEXT_H_
