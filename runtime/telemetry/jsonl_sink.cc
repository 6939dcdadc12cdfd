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
#include "runtime/telemetry/record_json.h"

namespace isthmus {
namespace {

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

// The new file has the owner of the old one, where the system allows that. The mode of the old one may be what made it
// unreadable.
void TakeAfter(const struct stat& old, const std::string& path) {
  [[maybe_unused]] const int result = chown(path.c_str(), old.st_uid, old.st_gid);
  chmod(path.c_str(), (old.st_mode & 07777) | S_IRUSR | S_IWUSR);
}

// Returns the old file's new name, and sets `bytes` to the size of the file that took its place. The kept records go
// into a file of another name first, so that the old one is never written to.
absl::StatusOr<std::string> Replace(const std::string& path, const KeptRecords& kept, int64_t& bytes) {
  const auto target = FindOutputTarget(path);
  // A folder or a pipe, for example, has no records to take over.
  if (!target.ok() || target->kind != OutputTarget::Kind::kFile) return SetAside(path);
  const std::string fresh = target->path + ".sound";
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(fresh));
  ISTHMUS_RETURN_IF_ERROR(CopyRecords(target->path, kept, *file));
  ISTHMUS_RETURN_IF_ERROR(file->Commit());
  TakeAfter(target->status, fresh);
  auto aside = SetAsideFor(fresh, target->path);
  if (!aside.ok()) unlink(fresh.c_str());
  bytes = file->size();
  return aside;
}

// Returns the status for a file that has to make room, and can't.
absl::Status StaysInTheWay(const std::string& path, const std::string& trouble, const absl::Status& status) {
  const bool full = absl::IsResourceExhausted(status);  // the message says what to do then
  return absl::Status(status.code(), absl::StrCat(path, ": ", trouble, ", so it has to make room for a new file: ",
                                                  status.message(), "; nothing of it is lost",
                                                  full ? "" : "; let its folder be written to, or move it away"));
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

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Continue(const std::string& path, const StepsSoFar& steps,
                                                               Notes& notes) {
  const KeptRecords kept = FindRecords(path, steps);
  int64_t bytes = kept.lines.empty() ? 0 : kept.lines.back().begin + kept.lines.back().bytes;
  bool ends_line = kept.last_has_end;
  std::string aside;
  if (!kept.trouble.empty()) {
    auto replaced = Replace(path, kept, bytes);
    if (!replaced.ok()) return StaysInTheWay(path, kept.trouble, replaced.status());
    aside = *std::move(replaced);
    ends_line = true;
    notes.Add(absl::StrCat(path, ": ", kept.trouble, "; all of it is in ", aside, " now, and its ", kept.lines.size(),
                           " sound records up to step ", steps.last, " are gone on from"));
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
