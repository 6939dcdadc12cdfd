#include "launch/report/page.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "launch/report_script.h"
#include "launch/report_style.h"
#include "runtime/version.h"

namespace isthmus::report {
namespace {

template <size_t kBytes>
absl::string_view Embedded(const unsigned char (&bytes)[kBytes]) {
  return {reinterpret_cast<const char*>(bytes), kBytes};
}

std::string TitleOf(absl::Span<const Run> runs) {
  if (runs.size() == 1) return absl::StrCat("Run ", runs.front().name);
  if (runs.size() > 3) return absl::StrCat(runs.size(), " runs compared");
  std::string title;
  for (const Run& run : runs) absl::StrAppend(&title, title.empty() ? "" : " · ", run.name);
  return title;
}

}  // namespace

std::string FramedPage(const PageFrame& frame, const std::string& sections) {
  const std::string title = Escape(frame.title);
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"isthmus ",
      kVersion, "\">\n<link rel=\"icon\" href=\"data:,\">\n<title>", title, " – Isthmus</title>\n<style>\n",
      Embedded(kReportStyle), "</style>\n</head>\n<body>\n<header><p>", Escape(frame.kind), "</p><h1>", title,
      "</h1></header>\n<main>\n", sections, "</main>\n<footer>", frame.footer, "</footer>\n<script>\n",
      Embedded(kReportScript), "</script>\n</body>\n</html>\n");
}

std::string PageHtml(absl::Span<const Run> runs) {
  return FramedPage(
      {.title = TitleOf(runs),
       .kind = "Isthmus report",
       .footer = absl::StrCat("Made by <code>isthmus report</code>, version ", kVersion,
                              ", from <code>metrics.jsonl</code> and <code>config.textproto</code> of each run. Long "
                              "series are thinned: a point then stands for the mean of several records.")},
      absl::StrCat(RunsSection(runs), LossSection(runs), SpeedUpSection(runs), HeadsSection(runs), HeadSection(runs),
                   UpdateSection(runs), TokenGapsSection(runs), ThroughputSection(runs), ConfigurationSection(runs),
                   FiguresSection(runs)));
}

}  // namespace isthmus::report
