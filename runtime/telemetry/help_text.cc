#include "runtime/telemetry/help_text.h"

#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.pb.h>

#include <memory>

#include "proto/telemetry_comments.h"

namespace isthmus {
namespace {

using google::protobuf::DescriptorPool;

// The classes that protoc makes have no comments: those are in a description of the file made beside them.
const DescriptorPool& Commented() {
  static const std::unique_ptr<const DescriptorPool> pool = [] {
    google::protobuf::FileDescriptorSet files;
    files.ParseFromArray(kTelemetryComments, sizeof(kTelemetryComments));
    auto made = std::make_unique<DescriptorPool>();
    for (const auto& file : files.file()) made->BuildFile(file);
    return made;
  }();
  return *pool;
}

template <typename Descriptor>
std::string Comment(const Descriptor* descriptor) {
  google::protobuf::SourceLocation location;
  if (descriptor == nullptr || !descriptor->GetSourceLocation(&location)) return "";
  const std::string& text = location.trailing_comments.empty() ? location.leading_comments : location.trailing_comments;
  return absl::StrJoin(absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty()), " ");
}

}  // namespace

std::string HelpText(const google::protobuf::FieldDescriptor& field) {
  const auto* message = Commented().FindMessageTypeByName(field.containing_type()->full_name());
  const std::string own = message == nullptr ? "" : Comment(message->FindFieldByName(field.name()));
  return own.empty() ? absl::StrReplaceAll(field.name(), {{"_", " "}}) : own;
}

}  // namespace isthmus
