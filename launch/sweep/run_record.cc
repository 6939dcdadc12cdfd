#include "launch/sweep/run_record.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "launch/report/run.h"
#include "runtime/config.h"
#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr int64_t kMostRecordBytes = 1 << 16;
constexpr int64_t kMostLogBytes = int64_t{1} << 28;
constexpr size_t kReasonLines = 3;
constexpr size_t kLinesOfLaunchers = 12;                         // at most; mpirun says in nine that a rank has failed
const char* const kEnds[] = {"finished", "diverged", "failed"};  // in the order of RunResult::End

std::string RecordPath(const std::string& folder) { return folder + "/sweep.json"; }

// Returns the last lines of a log that say something: from the program's own message on, or else the very last ones.
std::string LastLines(const std::string& log) {
  const auto text = ReadFile(log, kMostLogBytes);
  if (!text.ok()) return std::string(text.status().message());
  std::vector<std::string> lines = absl::StrSplit(*text, '\n', absl::SkipWhitespace());
  if (lines.size() > kLinesOfLaunchers) lines.erase(lines.begin(), lines.end() - kLinesOfLaunchers);
  const auto own = std::find_if(lines.rbegin(), lines.rend(),
                                [](const std::string& line) { return absl::StartsWith(line, "isthmus: "); });
  if (own != lines.rend()) lines.erase(lines.begin(), std::prev(own.base()));
  if (own != lines.rend() && lines.size() > kReasonLines) lines.resize(kReasonLines);
  if (lines.size() > kReasonLines) lines.erase(lines.begin(), lines.end() - kReasonLines);
  return absl::StrJoin(lines, " | ");
}

RunResult Failed(const std::string& reason) { return {.end = RunResult::End::kFailed, .reason = reason}; }

}  // namespace

absl::StatusOr<std::string> SettingsDigest(const std::string& base, const PlannedRun& run) {
  ISTHMUS_ASSIGN_OR_RETURN(proto::RunConfig config, LoadConfig(base, run.overrides));
  config.clear_folder();
  const std::string text = ShortConfigText(std::move(config));
  return absl::StrFormat("%016x", XXH3_64bits(text.data(), text.size()));
}

absl::StatusOr<std::optional<RunRecord>> ReadRunRecord(const std::string& folder) {
  const std::string path = RecordPath(folder);
  const auto text = ReadFile(path, kMostRecordBytes);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  ISTHMUS_RETURN_IF_ERROR(text.status());
  const nlohmann::json json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto is = [&](const char* key, bool (nlohmann::json::*kind)() const noexcept) {
    return json.is_object() && json.contains(key) && (json[key].*kind)();
  };
  RunRecord record;
  const auto end = is("end", &nlohmann::json::is_string)
                       ? std::find(std::begin(kEnds), std::end(kEnds), json["end"].get<std::string>())
                       : std::end(kEnds);
  const bool has_loss = is("loss", &nlohmann::json::is_number);
  record.result.end = static_cast<RunResult::End>(end - std::begin(kEnds));
  if (end == std::end(kEnds) || (record.result.end == RunResult::End::kFinished && !has_loss) ||
      !is("seconds", &nlohmann::json::is_number) || !is("settings", &nlohmann::json::is_string)) {
    return absl::DataLossError(absl::StrCat(path, ": is no record of a run; remove it to run this run again"));
  }
  if (has_loss) record.result.loss = json["loss"].get<double>();
  if (is("reason", &nlohmann::json::is_string)) record.result.reason = json["reason"].get<std::string>();
  record.seconds = json["seconds"].get<double>();
  record.settings = json["settings"].get<std::string>();
  return record;
}

absl::Status WriteRunRecord(const std::string& folder, const RunRecord& record) {
  nlohmann::ordered_json json;
  json["end"] = kEnds[static_cast<int>(record.result.end)];
  if (record.result.end == RunResult::End::kFinished) json["loss"] = record.result.loss;
  if (!record.result.reason.empty()) json["reason"] = record.result.reason;
  json["seconds"] = record.seconds;
  json["settings"] = record.settings;
  // Bytes of a log may be no text.
  const std::string text = json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return WriteDurably(RecordPath(folder), text);
}

absl::Status RemoveRunRecord(const std::string& folder) {
  std::error_code error;
  std::filesystem::remove(RecordPath(folder), error);
  return error ? FileError(RecordPath(folder), "can't remove it", error.value()) : absl::OkStatus();
}

absl::Status MakeRunFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return error ? FileError(path, "can't make the folder", error.value()) : absl::OkStatus();
}

RunResult FailureOf(int exit_status, const std::string& log) {
  return Failed(absl::StrCat("exit status ", exit_status, ": ", LastLines(log)));
}

RunResult ResultOfRun(const std::string& folder, int exit_status, const std::string& log) {
  if (exit_status == kExitDiverged) return {.end = RunResult::End::kDiverged, .reason = LastLines(log)};
  if (exit_status != kExitDone) return FailureOf(exit_status, log);
  const auto run = report::ReadRun(folder);
  if (!run.ok()) return Failed(std::string(run.status().message()));
  const double loss = run->Figure("validation/loss").Last();
  if (!std::isfinite(loss)) return Failed("it ended without a finite validation loss; check data.validation");
  return {.loss = loss};
}

}  // namespace isthmus::sweep
