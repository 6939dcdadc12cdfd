#include "runtime/telemetry/jsonl_sink.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include "runtime/telemetry/record_json.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Create(const std::string& path) {
  auto file = AppendFile::Create(path);
  if (absl::IsAlreadyExists(file.status())) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": the folder already holds a run; set `folder` to another one, or remove it"));
  }
  if (!file.ok()) return file.status();
  return absl::WrapUnique(new JsonlSink(*std::move(file)));
}

absl::Status JsonlSink::Write(const proto::TelemetryRecord& record) { return file_->Append(RecordJson(record) + "\n"); }

}  // namespace isthmus
