#include "runtime/text_format.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

namespace isthmus {
namespace {

// Most levels of nested messages; configurations have four.
constexpr int kDeepest = 32;

// Keeps the first error of the text parser.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(absl::string_view source) : source_(source) {}
  void AddError(int line, int column, const std::string& message) override {
    if (!message_.empty()) return;
    // The parser counts from 0, people from 1; it reports -1 for the message as a whole.
    message_ = line < 0 ? absl::StrCat(source_, ": ", message)
                        : absl::StrCat(source_, ":", line + 1, ":", column + 1, ": ", message);
  }
  void AddWarning(int, int, const std::string&) override {}
  const std::string& message() const { return message_; }

 private:
  std::string source_;
  std::string message_;
};

}  // namespace

absl::Status ParseTextFormat(const std::string& text, absl::string_view source, google::protobuf::Message& message) {
  FirstError error(source);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.SetRecursionLimit(kDeepest);
  return parser.ParseFromString(text, &message) ? absl::OkStatus() : absl::InvalidArgumentError(error.message());
}

}  // namespace isthmus
