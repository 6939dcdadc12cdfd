#include "tests/support/markup.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <cctype>
#include <set>
#include <vector>

namespace isthmus::testing {
namespace {

class MarkupReader {
 public:
  explicit MarkupReader(absl::string_view text) : all_(text), rest_(text) {}

  std::string Read() {
    while (!rest_.empty() && wrong_.empty()) {
      if (rest_[0] != '<') {
        Text();
      } else if (absl::StartsWith(rest_, "</")) {
        Close();
      } else {
        Open();
      }
    }
    if (wrong_.empty() && !open_.empty()) Fail(absl::StrCat("<", open_.back(), "> is not closed"));
    return wrong_;
  }

 private:
  void Fail(absl::string_view what) {
    const size_t at = all_.size() - rest_.size();
    wrong_ = absl::StrCat(what, " at ", at, ": …", all_.substr(at < 60 ? 0 : at - 60, 120), "…");
  }
  // One character of text or of an attribute's value.
  void Text() {
    if (rest_[0] == '&') {
      const size_t end = rest_.find(';');
      const absl::string_view entity = rest_.substr(1, end == absl::string_view::npos ? 0 : end - 1);
      static const auto* const known = new std::set<absl::string_view>{"amp", "lt", "gt", "quot", "apos", "#39"};
      if (!known->contains(entity)) return Fail("an unknown entity");
      rest_.remove_prefix(end + 1);
      return;
    }
    const auto byte = static_cast<unsigned char>(rest_[0]);
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) return Fail("a control character");
    rest_.remove_prefix(1);
  }
  std::string Name() {
    size_t end = 0;
    while (end < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[end])) != 0 || rest_[end] == '-'))
      ++end;
    std::string name(rest_.substr(0, end));
    rest_.remove_prefix(end);
    if (name.empty()) Fail("a name is missing");
    return name;
  }
  bool Take(absl::string_view expected) {
    if (!absl::StartsWith(rest_, expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  void Close() {
    Take("</");
    const std::string name = Name();
    if (open_.empty() || open_.back() != name) return Fail(absl::StrCat("</", name, "> closes nothing"));
    open_.pop_back();
    if (!Take(">")) Fail("> is missing");
  }
  void Open() {
    Take("<");
    const std::string name = Name();
    std::set<std::string> attributes;
    while (wrong_.empty() && Take(" ")) Attribute(attributes);
    if (!wrong_.empty() || Take("/>")) return;
    if (!Take(">")) return Fail("> is missing");
    open_.push_back(name);
  }
  void Attribute(std::set<std::string>& attributes) {
    if (!attributes.insert(Name()).second) return Fail("an attribute is given twice");
    if (!Take("=\"")) return Fail("a quoted value is missing");
    while (wrong_.empty() && !Take("\"")) {
      if (rest_.empty() || rest_[0] == '<') return Fail("a value is not closed");
      Text();
    }
  }

  absl::string_view all_, rest_;
  std::vector<std::string> open_;
  std::string wrong_;
};

}  // namespace

std::string WrongMarkup(absl::string_view text) { return MarkupReader(text).Read(); }

}  // namespace isthmus::testing
