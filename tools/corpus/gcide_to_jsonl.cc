// Turns the Collaborative International Dictionary of English, as Debian's package dict-gcide holds it
// (/usr/share/dictd/gcide.dict.dz), into one JSON object per dictionary entry: {"text": "headword … definition"}.
//
//   gcide_to_jsonl INPUT OUTPUT.jsonl
//
// The notices of the database (00-database-…) and the tags of origin ("[1913 Webster]") are left out. Lines that were
// wrapped at 70 columns are joined; paragraphs stay apart.
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/data/line_reader.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Says whether a line only names the source of the text above it.
bool IsOrigin(const std::string& line) {
  return line.size() > 2 && line.size() < 60 && line.front() == '[' && line.back() == ']' &&
         (line.find("Webster") != std::string::npos || line.find("WordNet") != std::string::npos ||
          line.find("PJC") != std::string::npos || line.find("Century") != std::string::npos);
}

class EntryWriter {
 public:
  explicit EntryWriter(DurableFile& file) : file_(file) {}

  // Adds an indented line of the entry, stripped. Between paragraphs the line is empty.
  void AddLine(const std::string& line) {
    if (line.empty() || IsOrigin(line)) {
      paragraph_open_ = false;
      return;
    }
    if (!text_.empty()) text_ += paragraph_open_ ? ' ' : '\n';
    text_ += line;
    paragraph_open_ = true;
  }

  absl::Status EndEntry() {
    if (!text_.empty() && text_.rfind("00-database", 0) != 0) {
      // A few bytes of the database are not UTF-8: they become U+FFFD.
      lines_ += nlohmann::json({{"text", text_}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      lines_ += '\n';
      ++entries_;
    }
    text_.clear();
    paragraph_open_ = false;
    return lines_.size() > (1 << 20) ? Flush() : absl::OkStatus();
  }

  absl::Status Flush() {
    ISTHMUS_RETURN_IF_ERROR(file_.Append(lines_.data(), static_cast<int64_t>(lines_.size())));
    lines_.clear();
    return absl::OkStatus();
  }
  int64_t entries() const { return entries_; }

 private:
  DurableFile& file_;
  std::string text_, lines_;
  bool paragraph_open_ = false;
  int64_t entries_ = 0;
};

absl::Status Convert(const std::string& input, const std::string& output) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto reader, LineReader::Open(input));
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(output, FileOwner::kUser));
  EntryWriter writer(*file);
  std::string line;
  bool in_headwords = false;
  while (true) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool more, reader->Next(line));
    if (!more) break;
    // An entry begins with headwords at the first column and goes on with indented lines.
    const bool headword = !line.empty() && line.front() != ' ' && line.front() != '\t';
    if (headword && !in_headwords) ISTHMUS_RETURN_IF_ERROR(writer.EndEntry());
    in_headwords = headword;
    writer.AddLine(std::string(absl::StripAsciiWhitespace(line)));
  }
  ISTHMUS_RETURN_IF_ERROR(writer.EndEntry());
  ISTHMUS_RETURN_IF_ERROR(writer.Flush());
  if (writer.entries() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(input, ": no dictionary entries found; give gcide.dict.dz"));
  }
  ISTHMUS_RETURN_IF_ERROR(file->Commit());
  std::printf("%s: %lld entries\n", output.c_str(), static_cast<long long>(writer.entries()));
  return absl::OkStatus();
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: gcide_to_jsonl INPUT OUTPUT.jsonl\n");
    return 2;
  }
  const absl::Status status = isthmus::Convert(argv[1], argv[2]);
  if (!status.ok()) std::fprintf(stderr, "gcide_to_jsonl: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 2;
}
