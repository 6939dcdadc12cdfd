#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <iostream>
#include <string>
#include <vector>

#include "launch/commands.h"
#include "launch/commands/result_path.h"
#include "launch/options.h"
#include "launch/report/page.h"
#include "launch/report/plot.h"
#include "launch/report/run.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status ReportCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  std::vector<std::string> folders;
  std::string path = "report.html";
  Options options("isthmus report",
                  "One self-contained HTML page that compares runs; they may still be running. Needs no network.");
  options.Add("out", "FILE", "where the page goes; an older one is replaced, pipes and devices are written to", &path)
      .Positional("RUN...", "run folders", &folders, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (folders.size() > report::kStyles) {
    return absl::InvalidArgumentError(absl::StrCat("isthmus report: found ", folders.size(), " runs; accepts 1 to ",
                                                   report::kStyles, ", more can't be told apart"));
  }
  CommandInputs inputs{.files = {}, .folders = folders};
  for (const std::string& folder : folders) {
    for (const char* file : {"/metrics.jsonl", "/config.textproto"}) inputs.files.push_back(folder + file);
  }
  ISTHMUS_RETURN_IF_ERROR(CheckResultPath("--out", path, inputs));
  std::vector<report::Run> runs;
  for (const std::string& folder : folders) {
    ISTHMUS_ASSIGN_OR_RETURN(report::Run run, report::ReadRun(folder));
    runs.push_back(std::move(run));
  }
  ISTHMUS_RETURN_IF_ERROR(report::NameRuns(absl::MakeSpan(runs)));
  const std::string page = report::PageHtml(runs);
  // If the page goes to standard output, messages must not become part of it.
  std::ostream& says = IsStandardOutput(path) ? std::cerr : out;
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(path, page, FileOwner::kUser));
  int64_t records = 0;
  for (const report::Run& run : runs) {
    records += run.records;
    for (const std::string& note : run.notes) says << run.folder << ": " << note << "\n";
  }
  says << absl::StrFormat("%s: %d %s, %d records, %.0f KB; open it in a browser\n", path, runs.size(),
                          runs.size() == 1 ? "run" : "runs", records, static_cast<double>(page.size()) / 1e3);
  return absl::OkStatus();
}

}  // namespace isthmus
