// Protobuf text format, as people write it.
#ifndef ISTHMUS_RUNTIME_TEXT_FORMAT_H_
#define ISTHMUS_RUNTIME_TEXT_FORMAT_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <google/protobuf/message.h>

#include <string>

namespace isthmus {

// Reads `text` into `message`, which is empty. `source` names it in messages. Errors: InvalidArgument with the first
// fault, "source:line:column: …".
absl::Status ParseTextFormat(const std::string& text, absl::string_view source, google::protobuf::Message& message);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TEXT_FORMAT_H_
