#include "runtime/telemetry/jsonl_sink.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/status.h"
#include "runtime/telemetry/record_json.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Create(const std::string& path) {
  auto file = AppendFile::Create(path);
  if (absl::IsAlreadyExists(file.status())) {
    return absl::AlreadyExistsError(absl::StrCat(
        path,
        ": the folder already holds a run; continue it with --resume auto, set `folder` to another one, or "
        "remove it"));
  }
  if (!file.ok()) return file.status();
  return absl::WrapUnique(new JsonlSink(*std::move(file)));
}

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Continue(const std::string& path, int64_t last_step) {
  int64_t kept = 0;
  std::ifstream lines(path, std::ios::binary);
  for (std::string line; std::getline(lines, line) && !lines.eof();) {
    const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("step") || !record["step"].is_number() ||
        record["step"].get<int64_t>() > last_step) {
      break;
    }
    kept += static_cast<int64_t>(line.size()) + 1;
  }
  ISTHMUS_ASSIGN_OR_RETURN(auto file, AppendFile::Continue(path, kept));
  return absl::WrapUnique(new JsonlSink(std::move(file)));
}

absl::Status JsonlSink::Write(const proto::TelemetryRecord& record) { return file_->Append(RecordJson(record) + "\n"); }

}  // namespace isthmus
