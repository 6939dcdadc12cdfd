#include "runtime/telemetry/jsonl_sink.h"

#include <absl/cleanup/cleanup.h>
#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/durable_file.h"
#include "runtime/output_target.h"
#include "runtime/set_aside.h"
#include "runtime/status.h"
#include "runtime/telemetry/kept_records.h"
#include "runtime/telemetry/record_json.h"

namespace isthmus {
namespace {

// Writes the kept records to a file that takes the name when it is complete. The old file has the name until then.
absl::Status CopyRecords(const std::string& from, const KeptRecords& kept, DurableFile& to) {
  if (kept.lines.empty()) return absl::OkStatus();
  const int descriptor = open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(from, "can't open the file", errno);
  const absl::Cleanup close_file = [descriptor] { close(descriptor); };
  std::string text;
  for (const KeptRecords::Line& line : kept.lines) {
    text.resize(static_cast<size_t>(line.bytes));
    const ssize_t got = pread(descriptor, text.data(), text.size(), line.begin);
    if (got != line.bytes) return FileError(from, "can't read", got < 0 ? errno : EIO);
    if (text.back() != '\n') text += '\n';
    ISTHMUS_RETURN_IF_ERROR(to.Append(text.data(), static_cast<int64_t>(text.size())));
  }
  return absl::OkStatus();
}

// Returns the old file's new name, and sets `bytes` to the size of the file that took its place.
absl::StatusOr<std::string> Replace(const std::string& path, const KeptRecords& kept, int64_t& bytes) {
  const auto target = FindOutputTarget(path);
  // A folder or a pipe, for example, has no records to take over.
  if (!target.ok() || target->kind != OutputTarget::Kind::kFile) return SetAside(path);
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(target->path));
  ISTHMUS_RETURN_IF_ERROR(CopyRecords(target->path, kept, *file));
  ISTHMUS_ASSIGN_OR_RETURN(std::string aside, NameAside(target->path));
  ISTHMUS_RETURN_IF_ERROR(file->Commit());
  // The new file has the mode of the old one, which may be what made it unreadable.
  struct stat status {};
  if (stat(target->path.c_str(), &status) == 0) chmod(target->path.c_str(), status.st_mode | S_IRUSR | S_IWUSR);
  bytes = file->size();
  return aside;
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
  const KeptRecords kept = FindRecords(path, last_step);
  int64_t bytes = kept.lines.empty() ? 0 : kept.lines.back().begin + kept.lines.back().bytes;
  bool ends_line = kept.last_has_end;
  std::string aside;
  if (!kept.trouble.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(aside, Replace(path, kept, bytes));
    ends_line = true;
    notes.Add(absl::StrCat(path, ": ", kept.trouble, "; all of it is in ", aside, " now, and its ", kept.lines.size(),
                           " sound records up to step ", last_step, " are gone on from"));
  }
  auto file = AppendFile::Continue(path, bytes);
  if (!file.ok() && !aside.empty()) {
    return absl::Status(file.status().code(),
                        absl::StrCat(file.status().message(), "; the records before are in ", aside));
  }
  ISTHMUS_RETURN_IF_ERROR(file.status());
  if (!ends_line) ISTHMUS_RETURN_IF_ERROR((*file)->Append("\n"));
  return absl::WrapUnique(new JsonlSink(*std::move(file)));
}

absl::Status JsonlSink::Write(const proto::TelemetryRecord& record) { return file_->Append(RecordJson(record) + "\n"); }

}  // namespace isthmus
