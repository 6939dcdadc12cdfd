#include "runtime/telemetry/kept_records.h"

#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace isthmus {
namespace {

using RecordLine = KeptRecords::Line;

// The limit is far longer than a sound record. It exists so that a damaged line takes no more memory.
constexpr size_t kLongestLine = size_t{16} << 20;
// A file that holds nothing else for so long is read no further. It may be a sparse one of terabytes.
constexpr int64_t kMostWithoutRecord = int64_t{64} << 20;

// Takes two numbers of the outermost object, and keeps nothing else: a deep line takes no more memory than its text.
class RecordFields : public nlohmann::json_sax<nlohmann::json> {
 public:
  int64_t step() const { return step_; }      // -1: none
  int64_t tokens() const { return tokens_; }  // -1: none
  size_t error_at() const { return error_at_; }

  bool null() override { return Take(-1); }
  bool boolean(bool /*value*/) override { return Take(-1); }
  bool number_integer(number_integer_t value) override { return Take(std::max<int64_t>(value, -1)); }
  bool number_unsigned(number_unsigned_t value) override {
    constexpr auto kMost = static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max());
    return Take(value <= kMost ? static_cast<int64_t>(value) : -1);
  }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return Take(-1); }
  bool string(string_t& /*value*/) override { return Take(-1); }
  bool binary(binary_t& /*value*/) override { return Take(-1); }
  bool key(string_t& name) override {
    if (depth_ == 1) field_ = name == "step" ? &step_ : name == "tokens" ? &tokens_ : nullptr;
    return true;
  }
  bool start_object(size_t /*elements*/) override { return Begin(); }
  bool start_array(size_t /*elements*/) override { return Begin(); }
  bool end_object() override { return End(); }
  bool end_array() override { return End(); }
  bool parse_error(size_t position, const std::string& /*token*/, const nlohmann::json::exception& /*error*/) override {
    error_at_ = position;
    return false;
  }

 private:
  bool Take(int64_t value) {
    if (depth_ == 1 && field_ != nullptr) *field_ = value;
    return true;
  }
  bool Begin() {
    Take(-1);
    ++depth_;
    return true;
  }
  bool End() {
    --depth_;
    return true;
  }

  int64_t step_ = -1, tokens_ = -1;
  int64_t* field_ = nullptr;  // of the next value at depth 1
  int64_t depth_ = 0;
  size_t error_at_ = 0;
};

struct ParsedLine {
  int64_t step = -1, tokens = -1;  // -1: none
  bool breaks_off = false;         // the text is the beginning of an object
};

ParsedLine ParseLine(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos || text[first] != '{') return {.breaks_off = text.empty()};
  RecordFields fields;
  if (!nlohmann::json::sax_parse(text, &fields)) return {.breaks_off = fields.error_at() > text.size()};
  return {.step = fields.step(), .tokens = fields.tokens()};
}

struct AllLines {
  std::vector<RecordLine> lines;  // whole records with the tokens of their steps
  int64_t damaged = 0, first_damaged = 0;
  bool last_has_end = true;
  std::string trouble;

  void CountDamaged(int64_t number) {
    first_damaged = damaged == 0 ? number : std::min(first_damaged, number);
    ++damaged;
  }
};

// Collects lines from the file's bytes, which come in order.
class LineCollector {
 public:
  explicit LineCollector(int64_t tokens_each) : tokens_each_(tokens_each) {}
  void Take(const char* data, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
      const void* const end = std::memchr(data + at, '\n', bytes - at);
      const size_t next = end == nullptr ? bytes : static_cast<size_t>(static_cast<const char*>(end) - data);
      if (text_.size() + next - at <= kLongestLine) {
        text_.append(data + at, next - at);
      } else {
        too_long_ = true;
      }
      line_.bytes += static_cast<int64_t>(next - at);
      at = next;
      if (end == nullptr) break;
      ++line_.bytes;
      ++at;
      EndLine();
    }
  }
  // Bytes behind the last record that was found.
  int64_t BytesWithoutRecord() const { return line_.begin + line_.bytes - records_end_; }
  // `whole` says that the file was read to its end.
  AllLines Finish(bool whole) {
    // A crash may leave zeros in place of the line's end, or of more.
    const size_t zeros = too_long_ ? 0 : text_.size() - (text_.find_last_not_of('\0') + 1);
    text_.resize(text_.size() - zeros);
    line_.bytes -= static_cast<int64_t>(zeros);
    if (line_.bytes == 0) return std::move(all_);
    const ParsedLine parsed = Parsed();
    if (IsSound(parsed)) {
      all_.last_has_end = false;
      Keep(parsed.step);
    } else if (parsed.step >= 0 || (whole && !parsed.breaks_off)) {
      all_.CountDamaged(line_.number);
    }
    return std::move(all_);
  }

 private:
  ParsedLine Parsed() const { return too_long_ ? ParsedLine() : ParseLine(text_); }
  bool IsSound(const ParsedLine& parsed) const {
    if (parsed.step < 0) return false;
    // The comparison divides, because the product may overflow.
    return tokens_each_ == 0 || parsed.tokens < 0 ||
           (parsed.tokens % tokens_each_ == 0 && parsed.tokens / tokens_each_ == parsed.step);
  }
  void Keep(int64_t step) {
    line_.step = step;
    all_.lines.push_back(line_);
    records_end_ = line_.begin + line_.bytes;
  }
  void EndLine() {
    const ParsedLine parsed = Parsed();
    if (IsSound(parsed)) {
      Keep(parsed.step);
    } else {
      all_.CountDamaged(line_.number);
    }
    line_ = {.begin = line_.begin + line_.bytes, .number = line_.number + 1};
    text_.clear();
    too_long_ = false;
  }

  int64_t tokens_each_;
  AllLines all_;
  RecordLine line_;
  int64_t records_end_ = 0;
  std::string text_;
  bool too_long_ = false;
};

AllLines ReadLines(const std::string& path, int64_t tokens_each) {
  const auto failed = [](const char* what, int error) {
    return AllLines{.trouble = absl::StrCat(what, ": ", std::strerror(error))};
  };
  // O_NONBLOCK is needed: a pipe must not make this wait.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return errno == ENOENT ? AllLines() : failed("it can't be opened", errno);
  const absl::Cleanup close_file = [descriptor] { close(descriptor); };
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return failed("it can't be read", errno);
  if (!S_ISREG(status.st_mode)) return {.trouble = "it is no regular file"};
  LineCollector lines(tokens_each);
  std::vector<char> block(size_t{1} << 18);
  for (;;) {
    const ssize_t got = read(descriptor, block.data(), block.size());
    if (got == 0) return lines.Finish(/*whole=*/true);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      AllLines all = lines.Finish(/*whole=*/false);
      all.trouble = absl::StrCat("it can't be read to its end: ", std::strerror(error));
      return all;
    }
    lines.Take(block.data(), static_cast<size_t>(got));
    if (lines.BytesWithoutRecord() > kMostWithoutRecord) {
      AllLines all = lines.Finish(/*whole=*/false);
      all.trouble = absl::StrCat("it was not read to its end, as it has no record in ", kMostWithoutRecord, " bytes");
      return all;
    }
  }
}

// Returns the places of the longest sequence with ascending steps. With one wrong step these are all other places.
std::vector<size_t> LongestAscending(const std::vector<RecordLine>& lines) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  std::vector<size_t> ends;                         // by length: where the sequence with the lowest last step ends
  std::vector<size_t> before(lines.size(), kNone);  // the place before it in its sequence
  for (size_t place = 0; place < lines.size(); ++place) {
    const auto at = std::lower_bound(ends.begin(), ends.end(), lines[place].step,
                                     [&](size_t end, int64_t step) { return lines[end].step < step; });
    if (at != ends.begin()) before[place] = *(at - 1);
    if (at == ends.end()) {
      ends.push_back(place);
    } else {
      *at = place;
    }
  }
  std::vector<size_t> longest;
  for (size_t place = ends.empty() ? kNone : ends.back(); place != kNone; place = before[place]) {
    longest.push_back(place);
  }
  std::reverse(longest.begin(), longest.end());
  return longest;
}

}  // namespace

KeptRecords FindRecords(const std::string& path, const StepsSoFar& steps) {
  AllLines all = ReadLines(path, steps.tokens_each);
  const std::vector<size_t> ascending = LongestAscending(all.lines);
  KeptRecords kept{.trouble = std::move(all.trouble)};
  for (size_t place = 0, next = 0; place < all.lines.size(); ++place) {
    const RecordLine& line = all.lines[place];
    if (next == ascending.size() || ascending[next] != place) {
      all.CountDamaged(line.number);
      continue;
    }
    ++next;
    if (line.step <= steps.last) kept.lines.push_back(line);
  }
  if (all.damaged > 0) {
    absl::StrAppend(
        &kept.trouble, kept.trouble.empty() ? "" : "; ",
        all.damaged == 1 ? "line " : absl::StrCat(all.damaged, " lines are damaged or out of order, the first is "),
        all.first_damaged, all.damaged == 1 ? " is damaged or out of order" : "");
  }
  const bool last = !kept.lines.empty() && kept.lines.back().begin == all.lines.back().begin;
  kept.last_has_end = all.last_has_end || !last;
  return kept;
}

int64_t RecordStep(const std::string& line) { return ParseLine(line).step; }

}  // namespace isthmus
