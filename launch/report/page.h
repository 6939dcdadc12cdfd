// The page that compares runs is one self-contained HTML file.
#ifndef ISTHMUS_LAUNCH_REPORT_PAGE_H_
#define ISTHMUS_LAUNCH_REPORT_PAGE_H_

#include <absl/types/span.h>

#include <string>

#include "launch/report/run.h"

namespace isthmus::report {

// The page is a function of the runs alone: the same runs make the same bytes. Style and script are part of it, and its
// content security policy forbids every request.
std::string PageHtml(absl::Span<const Run> runs);

// A page around sections that are HTML, with the same style, script and content security policy. `title` and `kind`
// (above it) are text, `footer` HTML.
struct PageFrame {
  std::string title, kind, footer;
};
std::string FramedPage(const PageFrame& frame, const std::string& sections);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_PAGE_H_
