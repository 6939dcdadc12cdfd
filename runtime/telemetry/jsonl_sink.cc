#include "runtime/telemetry/jsonl_sink.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/telemetry/record_json.h"

namespace isthmus {
namespace {

// Of a line that is no whole record.
constexpr int64_t kNoRecord = -1;

int64_t RecordStep(const std::string& line) {
  const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || !record.contains("step") || !record["step"].is_number_integer()) return kNoRecord;
  return std::max(record["step"].get<int64_t>(), kNoRecord);
}

struct Kept {
  int64_t end = 0;      // of the last record that stays
  int64_t bytes = 0;    // up to there, of records alone
  int64_t damaged = 0;  // lines up to there
};

Kept KeepUpTo(const std::string& path, int64_t last_step) {
  Kept kept;
  int64_t at = 0, damaged = 0;
  std::ifstream lines(path, std::ios::binary);
  // A last line without its end is not whole.
  for (std::string line; std::getline(lines, line) && !lines.eof();) {
    const int64_t step = RecordStep(line), bytes = static_cast<int64_t>(line.size()) + 1;
    if (step > last_step) break;
    at += bytes;
    if (step == kNoRecord) {
      ++damaged;
      continue;
    }
    kept.bytes += bytes;
    kept.end = at;
    kept.damaged = damaged;
  }
  return kept;
}

absl::Status RemoveDamagedLines(const std::string& path, int64_t end) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string before, ReadFile(path));
  std::string records;
  for (size_t at = 0; at < static_cast<size_t>(end);) {
    const size_t next = before.find('\n', at) + 1;
    const std::string line = before.substr(at, next - at);
    if (RecordStep(line) != kNoRecord) records += line;
    at = next;
  }
  return WriteDurably(path, records);
}

}  // namespace

absl::Status HoldsARun(const std::string& path) {
  return absl::AlreadyExistsError(absl::StrCat(path,
                                               ": the folder already holds a run; continue it with --resume auto, set "
                                               "`folder` to another one, or remove it"));
}

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Create(const std::string& path) {
  auto file = AppendFile::Create(path);
  if (absl::IsAlreadyExists(file.status())) {
    return HoldsARun(path);
  }
  if (!file.ok()) return file.status();
  return absl::WrapUnique(new JsonlSink(*std::move(file)));
}

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Continue(const std::string& path, int64_t last_step,
                                                               Notes& notes) {
  const Kept kept = KeepUpTo(path, last_step);
  if (kept.damaged > 0) {
    ISTHMUS_RETURN_IF_ERROR(RemoveDamagedLines(path, kept.end));
    notes.Add(absl::StrCat(path, ": ", kept.damaged, " damaged lines were dropped"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(auto file, AppendFile::Continue(path, kept.bytes));
  return absl::WrapUnique(new JsonlSink(std::move(file)));
}

absl::Status JsonlSink::Write(const proto::TelemetryRecord& record) { return file_->Append(RecordJson(record) + "\n"); }

}  // namespace isthmus
