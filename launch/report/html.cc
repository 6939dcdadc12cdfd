#include "launch/report/html.h"

#include <absl/strings/str_cat.h>

#include <cstdint>

namespace isthmus::report {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";

// Returns the bytes of the UTF-8 character at the start of `text`, and the character; 0 bytes if there is none.
size_t DecodeUtf8(absl::string_view text, uint32_t& character) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  size_t bytes = 0;
  uint32_t least = 0;
  if (byte(0) < 0x80) {
    character = byte(0);
    return 1;
  }
  if ((byte(0) & 0xE0) == 0xC0) {
    bytes = 2, least = 0x80, character = byte(0) & 0x1Fu;
  } else if ((byte(0) & 0xF0) == 0xE0) {
    bytes = 3, least = 0x800, character = byte(0) & 0x0Fu;
  } else if ((byte(0) & 0xF8) == 0xF0) {
    bytes = 4, least = 0x10000, character = byte(0) & 0x07u;
  }
  if (bytes == 0 || bytes > text.size()) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    character = character << 6 | (byte(i) & 0x3Fu);
  }
  const bool surrogate = character >= 0xD800 && character < 0xE000;
  return character >= least && character <= 0x10FFFF && !surrogate ? bytes : 0;
}

bool IsShown(uint32_t c) {
  if (c == '\n' || c == '\t') return true;
  if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xFFFE || c == 0xFFFF) return false;
  return !(c >= 0x202A && c <= 0x202E) && !(c >= 0x2066 && c <= 0x2069) && c != 0x200E && c != 0x200F;
}

}  // namespace

std::string Escape(absl::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    uint32_t character = 0;
    const size_t bytes = DecodeUtf8(text, character);
    if (bytes == 0 || !IsShown(character)) {
      absl::StrAppend(&escaped, kReplacement);
    } else if (character == '&') {
      absl::StrAppend(&escaped, "&amp;");
    } else if (character == '<') {
      absl::StrAppend(&escaped, "&lt;");
    } else if (character == '>') {
      absl::StrAppend(&escaped, "&gt;");
    } else if (character == '"') {
      absl::StrAppend(&escaped, "&quot;");
    } else if (character == '\'') {
      absl::StrAppend(&escaped, "&#39;");
    } else {
      absl::StrAppend(&escaped, text.substr(0, bytes));
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return escaped;
}

std::string TableHtml(const Table& table) {
  const std::string caption = Escape(table.caption);
  // The caption stays where it is when the frame scrolls, which must be reachable by keyboard.
  std::string html = absl::StrCat("<p class=\"caption\">", caption,
                                  "</p><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"", caption,
                                  "\"><table aria-label=\"", caption, "\"><thead><tr>");
  for (const std::string& cell : table.header) absl::StrAppend(&html, "<th scope=\"col\">", cell, "</th>");
  absl::StrAppend(&html, "</tr></thead><tbody>");
  for (const auto& row : table.rows) {
    absl::StrAppend(&html, "<tr>");
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&html, i == 0 ? "<th scope=\"row\">" : "<td>", row[i], i == 0 ? "</th>" : "</td>");
    }
    absl::StrAppend(&html, "</tr>\n");
  }
  return absl::StrCat(html, "</tbody></table></div>\n");
}

std::string Details(absl::string_view summary, absl::string_view content) {
  return absl::StrCat("<details><summary>", Escape(summary), "</summary>", content, "</details>\n");
}

}  // namespace isthmus::report
