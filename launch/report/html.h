// These are pieces of HTML and SVG. Text from a run's files passes through Escape.
#ifndef ISTHMUS_LAUNCH_REPORT_HTML_H_
#define ISTHMUS_LAUNCH_REPORT_HTML_H_

#include <absl/strings/string_view.h>

#include <string>
#include <vector>

namespace isthmus::report {

// Returns text that HTML and XML take as such, in elements and in quoted attributes. Markup is escaped. Bytes that are
// no UTF-8, control characters and those that turn the direction of text become U+FFFD.
std::string Escape(absl::string_view text);

// A table has a header row and row headers; a frame scrolls if it is wider than the page. Cells are HTML.
struct Table {
  std::string caption;  // text, read out and shown
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
std::string TableHtml(const Table& table);

// Makes a piece that the reader opens. `summary` is text, `content` HTML.
std::string Details(absl::string_view summary, absl::string_view content);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_HTML_H_
