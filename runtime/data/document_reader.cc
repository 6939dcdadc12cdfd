#include "runtime/data/document_reader.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "runtime/data/line_reader.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

enum class Format { kNone, kText, kJsonLines };

Format FormatOf(absl::string_view path) {
  if (!absl::ConsumeSuffix(&path, ".gz")) absl::ConsumeSuffix(&path, ".zst");
  if (absl::EndsWith(path, ".txt")) return Format::kText;
  if (absl::EndsWith(path, ".jsonl")) return Format::kJsonLines;
  return Format::kNone;
}

// Says whether the bytes are UTF-8 (RFC 3629): no overlong forms, surrogates, or values above U+10FFFF.
bool IsUtf8(const std::string& text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    if (*p < 0x80) {
      ++p;
      continue;
    }
    const int extra = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
    if (*p < 0xC2 || *p > 0xF4 || end - p <= extra) return false;
    const unsigned char least = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80;
    const unsigned char most = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < least || p[1] > most) return false;
    for (int i = 2; i <= extra; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
    }
    p += extra + 1;
  }
  return true;
}

// Returns the parser's reason without its own prefix, and without the text that it read, which may be long.
std::string ReasonOf(absl::string_view message) {
  constexpr size_t kMost = 200;
  if (const size_t name = message.find("] "); name != message.npos) message.remove_prefix(name + 2);
  if (absl::StartsWith(message, "parse error at ")) message.remove_prefix(message.find(": ") + 2);
  message = message.substr(0, message.find("; last read: "));
  return absl::StrCat(message.substr(0, kMost), message.size() > kMost ? "…" : "");
}

// Takes the string `field` of the outermost object, the last one if there are several. It keeps nothing else: deep
// lines, or lines with many values, take no more memory than the line itself.
class TextField : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit TextField(const std::string& field) : field_(field) {}
  bool is_object() const { return is_object_; }
  std::optional<std::string>& text() { return text_; }

  bool null() override { return Other(); }
  bool boolean(bool /*value*/) override { return Other(); }
  bool number_integer(number_integer_t /*value*/) override { return Other(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return Other(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return Other(); }
  bool binary(binary_t& /*value*/) override { return Other(); }
  bool string(string_t& value) override {
    if (IsField()) text_ = std::move(value);
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) is_field_ = name == field_;
    return true;
  }
  bool start_object(size_t /*elements*/) override {
    if (depth_ == 0) is_object_ = true;
    return Begin();
  }
  bool start_array(size_t /*elements*/) override { return Begin(); }
  bool end_object() override { return End(); }
  bool end_array() override { return End(); }
  bool parse_error(size_t position, const std::string& /*token*/, const nlohmann::json::exception& error) override {
    error_ = absl::StrCat(" (byte ", position, ": ", ReasonOf(error.what()), ")");
    return false;
  }
  // Says where the parser stopped, and why.
  const std::string& error() const { return error_; }

 private:
  bool IsField() const { return depth_ == 1 && is_object_ && is_field_; }
  bool Other() {
    if (IsField()) text_.reset();
    return true;
  }
  bool Begin() {
    Other();
    ++depth_;
    return true;
  }
  bool End() {
    --depth_;
    return true;
  }

  const std::string& field_;
  int64_t depth_ = 0;
  bool is_object_ = false;
  bool is_field_ = false;  // the next value at depth 1 is `field`
  std::optional<std::string> text_;
  std::string error_;
};

// Returns the value of the \uXXXX at `at`, or -1 if none stands there.
int EscapedUnit(const std::string& line, size_t at) {
  if (line.compare(at, 2, "\\u") != 0) return -1;
  int unit = 0;
  const char *begin = line.data() + at + 2, *end = line.data() + std::min(at + 6, line.size());
  return std::from_chars(begin, end, unit, 16).ptr == begin + 4 ? unit : -1;
}

// Replaces each escaped half of a surrogate pair whose other half is missing by U+FFFD, as decoders of UTF-8 do with
// such bytes. Python writes them, and reads them back. Returns whether there were any.
bool ReplaceLoneSurrogates(std::string& line) {
  constexpr int kHigh = 0xD800, kLow = 0xDC00, kEnd = 0xE000;
  bool any = false;
  for (size_t at = 0; (at = line.find('\\', at)) != std::string::npos;) {
    const int unit = EscapedUnit(line, at);
    if (unit < kHigh || unit >= kEnd) {
      at += 2;  // also past an escaped backslash
      continue;
    }
    const int next = unit < kLow ? EscapedUnit(line, at + 6) : -1;
    if (next >= kLow && next < kEnd) {
      at += 12;
      continue;
    }
    line.replace(at + 2, 4, "FFFD");
    any = true;
    at += 6;
  }
  return any;
}

// Takes the text field of a line into `text`. The line may change. Returns what is wrong, or nothing.
std::string TakeText(std::string& line, const std::string& text_field, std::string& text) {
  std::optional<TextField> field(text_field);
  bool parsed = nlohmann::json::sax_parse(line, &*field);
  if (!parsed && ReplaceLoneSurrogates(line)) {
    field.emplace(text_field);
    parsed = nlohmann::json::sax_parse(line, &*field);
  }
  if (!parsed && !IsUtf8(line)) return "the text is not UTF-8";
  if (!parsed || !field->is_object()) return absl::StrCat("is not a JSON object", field->error());
  if (!field->text().has_value()) {
    return absl::StrCat("has no string field \"", text_field, "\"; name the field with --text-field");
  }
  text = std::move(*field->text());
  return "";
}

absl::Status ReadText(const std::string& path, LineReader& reader, const DocumentVisitor& visitor) {
  std::string line;
  while (true) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool more, reader.Next(line));
    if (!more) return visitor.end_of_document();
    if (!IsUtf8(line)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", reader.line_number(), ": the text is not UTF-8"));
    }
    line.push_back('\n');
    ISTHMUS_RETURN_IF_ERROR(visitor.visit(line));
  }
}

absl::Status VisitLines(const std::string& text, const DocumentVisitor& visitor) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const size_t end = newline == std::string::npos ? text.size() : newline + 1;
    ISTHMUS_RETURN_IF_ERROR(visitor.visit(text.substr(begin, end - begin)));
    begin = end;
  }
  return visitor.end_of_document();
}

absl::Status ReadJsonLines(const std::string& path, LineReader& reader, const std::string& text_field,
                           const DocumentVisitor& visitor) {
  std::string line, text;
  while (true) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool more, reader.Next(line));
    if (!more) return absl::OkStatus();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (const std::string wrong = TakeText(line, text_field, text); !wrong.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", reader.line_number(), ": ", wrong));
    }
    ISTHMUS_RETURN_IF_ERROR(VisitLines(text, visitor));
  }
}

}  // namespace

absl::Status ReadDocuments(const std::vector<std::string>& files, const std::string& text_field,
                           const DocumentVisitor& visitor) {
  for (const std::string& path : files) {
    const Format format = FormatOf(path);
    if (format == Format::kNone) {
      return absl::InvalidArgumentError(absl::StrCat(path,
                                                     ": accepted are files that end in .txt or .jsonl, also with "
                                                     ".gz or .zst after it"));
    }
    ISTHMUS_ASSIGN_OR_RETURN(const auto reader, LineReader::Open(path));
    ISTHMUS_RETURN_IF_ERROR(format == Format::kText ? ReadText(path, *reader, visitor)
                                                    : ReadJsonLines(path, *reader, text_field, visitor));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FindTextFiles(absl::Span<const std::string> paths,
                                                       std::vector<std::string>& left_out) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      if (!std::filesystem::exists(path, error)) {
        return FileError(path, "can't open the file", error ? error.value() : ENOENT);
      }
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found, others;
    for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code unknown;
      const bool text = FormatOf(entry->path().string()) != Format::kNone && !entry->is_directory(unknown);
      (text ? found : others).push_back(entry->path().string());
    }
    if (error) return FileError(path, "can't list the folder", error.value());
    if (found.empty()) {
      return absl::NotFoundError(absl::StrCat(path, ": no .txt or .jsonl files (plain, .gz or .zst) in this folder"));
    }
    std::sort(found.begin(), found.end());
    std::sort(others.begin(), others.end());
    files.insert(files.end(), found.begin(), found.end());
    left_out.insert(left_out.end(), others.begin(), others.end());
  }
  return files;
}

}  // namespace isthmus
