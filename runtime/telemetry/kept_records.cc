#include "runtime/telemetry/kept_records.h"

#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

namespace isthmus {
namespace {

using RecordLine = KeptRecords::Line;

// Far longer than a sound record, and bounded, so that memory is bounded whatever a file holds.
constexpr size_t kLongestLine = size_t{16} << 20;

int64_t WholeNumber(const nlohmann::json& record, const char* key) {
  const auto found = record.find(key);
  if (found == record.end() || !found->is_number_integer()) return -1;
  return std::max<int64_t>(found->get<int64_t>(), -1);
}

void ParseLine(const std::string& text, RecordLine& line) {
  const nlohmann::json record = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return;
  line.step = WholeNumber(record, "step");
  line.tokens = WholeNumber(record, "tokens");
}

// True if the text is the beginning of a record. A crash of the machine may leave zeros in place of the rest.
bool BreaksOff(std::string text) {
  text.resize(text.find_last_not_of('\0') + 1);
  if (text.empty()) return true;
  if (text.front() != '{') return false;
  try {
    return nlohmann::json::parse(text).is_discarded();
  } catch (const nlohmann::json::parse_error& error) {
    return error.byte > text.size();            // the text ends too early
  } catch (const nlohmann::json::exception&) {  // a number too large for any type
    return false;
  }
}

struct AllLines {
  std::vector<RecordLine> lines;
  bool last_has_end = true;
  std::string trouble;
};

// Collects lines from the file's bytes, which come in order.
class LineCollector {
 public:
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
  // `whole`: the file was read to its end.
  AllLines Finish(bool whole) {
    // A crash may leave zeros in place of the line's end.
    const size_t zeros = too_long_ ? 0 : text_.size() - (text_.find_last_not_of('\0') + 1);
    text_.resize(text_.size() - zeros);
    line_.bytes -= static_cast<int64_t>(zeros);
    if (line_.bytes > 0) {
      if (!too_long_) ParseLine(text_, line_);
      if (line_.step >= 0) {
        all_.lines.push_back(line_);
        all_.last_has_end = false;
      } else if (whole && (too_long_ || !BreaksOff(text_))) {
        all_.lines.push_back(line_);
      }
    }
    return std::move(all_);
  }

 private:
  void EndLine() {
    if (!too_long_) ParseLine(text_, line_);
    all_.lines.push_back(line_);
    line_ = {.begin = line_.begin + line_.bytes};
    text_.clear();
    too_long_ = false;
  }

  AllLines all_;
  RecordLine line_;
  std::string text_;
  bool too_long_ = false;
};

AllLines ReadLines(const std::string& path) {
  const auto failed = [](const char* what, int error) {
    return AllLines{.trouble = absl::StrCat(what, ": ", std::strerror(error))};
  };
  // O_NONBLOCK: a pipe must not make this wait.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return errno == ENOENT ? AllLines() : failed("it can't be opened", errno);
  const absl::Cleanup close_file = [descriptor] { close(descriptor); };
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return failed("it can't be read", errno);
  if (!S_ISREG(status.st_mode)) return {.trouble = "it is no regular file"};
  LineCollector lines;
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
  }
}

// Tokens per step in most records.
std::optional<int64_t> UsualTokens(const std::vector<RecordLine>& lines) {
  std::map<int64_t, int64_t> found;
  for (const RecordLine& line : lines) {
    if (line.step > 0 && line.tokens >= 0 && line.tokens % line.step == 0) ++found[line.tokens / line.step];
  }
  const auto usual =
      std::max_element(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return usual == found.end() ? std::nullopt : std::optional(usual->first);
}

// Among `places`, those of the longest sequence with ascending steps. With one wrong step these are all other places.
std::vector<size_t> LongestAscending(const std::vector<RecordLine>& lines, const std::vector<size_t>& places) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  std::vector<size_t> ends;                         // by length: where the sequence with the lowest last step ends
  std::vector<size_t> before(lines.size(), kNone);  // the place before it in its sequence
  for (const size_t place : places) {
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

std::vector<size_t> SoundLines(const std::vector<RecordLine>& lines) {
  const std::optional<int64_t> tokens = UsualTokens(lines);
  std::vector<size_t> whole;
  for (size_t i = 0; i < lines.size(); ++i) {
    const RecordLine& line = lines[i];
    // Compared by division, because the product may overflow.
    const bool counts = line.tokens < 0 || line.step <= 0 || !tokens.has_value() ||
                        (line.tokens % line.step == 0 && line.tokens / line.step == *tokens);
    if (line.step >= 0 && counts) whole.push_back(i);
  }
  return LongestAscending(lines, whole);
}

}  // namespace

KeptRecords FindRecords(const std::string& path, int64_t last_step) {
  AllLines all = ReadLines(path);
  const std::vector<size_t> sound = SoundLines(all.lines);
  KeptRecords kept{.trouble = std::move(all.trouble)};
  if (const size_t damaged = all.lines.size() - sound.size(); damaged > 0) {
    size_t first = 0;
    while (first < sound.size() && sound[first] == first) ++first;
    absl::StrAppend(&kept.trouble, kept.trouble.empty() ? "" : "; ",
                    damaged == 1 ? "line " : absl::StrCat(damaged, " lines are damaged or out of order, the first is "),
                    first + 1, damaged == 1 ? " is damaged or out of order" : "");
  }
  for (const size_t i : sound) {
    if (all.lines[i].step > last_step) break;
    kept.lines.push_back(all.lines[i]);
  }
  const bool last = !kept.lines.empty() && kept.lines.back().begin == all.lines.back().begin;
  kept.last_has_end = all.last_has_end || !last;
  return kept;
}

}  // namespace isthmus
