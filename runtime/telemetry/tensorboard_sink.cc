#include "runtime/telemetry/tensorboard_sink.h"

#include <absl/memory/memory.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>
#include <absl/time/clock.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "proto/tensorboard_event.pb.h"
#include "runtime/crc32c.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/telemetry/figures.h"

namespace isthmus {
namespace {

using proto::tensorboard::Event;

constexpr absl::string_view kEventFilePrefix = "events.out.tfevents.";

template <typename Integer>
std::string Bytes(Integer value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));  // little-endian hosts only, as all of Isthmus's files
  return bytes;
}

// A CRC of data that holds CRCs itself would be weak.
uint32_t MaskedCrc(absl::string_view data) {
  const uint32_t crc = Crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
}

void AppendEvent(const Event& event, std::string& out) {
  const std::string data = event.SerializeAsString(), length = Bytes<uint64_t>(data.size());
  out += length + Bytes(MaskedCrc(length)) + data + Bytes(MaskedCrc(data));
}

void Fill(const proto::Histogram& histogram, proto::tensorboard::HistogramProto& out) {
  const auto& bounds = histogram.bounds();
  const int last = bounds.size();  // the bucket above all bounds
  const auto end = [&](int i) {
    if (last == 0) return 0.0;
    const double width = last > 1 ? (i < 0 ? bounds[1] - bounds[0] : bounds[last - 1] - bounds[last - 2]) : 0.0;
    return i < 0 ? bounds[0] - width : i < last ? bounds[i] : bounds[last - 1] + width;
  };
  int first_used = 0, last_used = last;
  const auto count = [&](int i) { return i < histogram.counts_size() ? static_cast<double>(histogram.counts(i)) : 0; };
  while (first_used < last && count(first_used) == 0) ++first_used;
  while (last_used > first_used && count(last_used) == 0) --last_used;
  double total = 0;
  for (int i = 0; i <= last; ++i) {
    out.add_bucket_limit(i < last ? bounds[i] : std::numeric_limits<double>::max());
    out.add_bucket(count(i));
    total += count(i);
  }
  out.set_min(end(first_used - 1));
  out.set_max(end(last_used));
  out.set_num(total);
  out.set_sum(histogram.sum());
}

// Returns the file that TensorBoard reads last, whoever wrote it; empty if there is none.
absl::StatusOr<std::string> LatestFile(const std::string& folder) {
  std::string latest;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (absl::StrContains(name, "tfevents")) latest = std::max(latest, name);
  }
  if (error) return FileError(folder, "can't look for TensorBoard's files", error.value());
  return latest;
}

}  // namespace

std::string EventFileName(const std::string& latest, int64_t now) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const auto name = [&](int64_t time) {
    return absl::StrFormat("%s%010d.%s.%d", kEventFilePrefix, time, host.data(), getpid());
  };
  if (std::string mine = name(now); mine > latest) return mine;
  absl::string_view stamp = latest;
  int64_t time = 0;
  const bool ours =
      absl::ConsumePrefix(&stamp, kEventFilePrefix) && absl::SimpleAtoi(stamp.substr(0, stamp.find('.')), &time);
  if (ours && time < std::numeric_limits<int64_t>::max()) {
    if (std::string next = name(time + 1); next > latest) return next;
  }
  // A longer name sorts after its own beginning.
  return latest + ".1";
}

absl::StatusOr<std::unique_ptr<TensorboardSink>> TensorboardSink::Create(const std::string& folder,
                                                                         int64_t first_step) {
  if (access(folder.c_str(), W_OK | X_OK) != 0) return FileError(folder, "can't make TensorBoard's file", errno);
  Event version, start;
  version.set_wall_time(absl::ToUnixMicros(absl::Now()) / 1e6);
  version.set_file_version("brain.Event:2");
  start.set_wall_time(version.wall_time());
  start.set_step(first_step);
  start.mutable_session_log()->set_status(proto::tensorboard::SessionLog::START);
  std::string header;
  AppendEvent(version, header);
  AppendEvent(start, header);
  return absl::WrapUnique(new TensorboardSink(folder, std::move(header)));
}

absl::Status TensorboardSink::MakeFile() {
  absl::StatusOr<std::unique_ptr<AppendFile>> file;
  for (int tries = 0; tries == 0 || (absl::IsAlreadyExists(file.status()) && tries < 100); ++tries) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::string latest, LatestFile(folder_));
    file = AppendFile::Create(absl::StrCat(folder_, "/", EventFileName(latest, absl::ToUnixSeconds(absl::Now()))));
  }
  ISTHMUS_RETURN_IF_ERROR(file.status());
  file_ = *std::move(file);
  return absl::OkStatus();
}

absl::Status TensorboardSink::Write(const proto::TelemetryRecord& record) {
  Event event;
  event.set_wall_time(record.timestamp_seconds());
  event.set_step(record.step());
  ForEachFigure(record, [&](const Figure& figure) {
    const auto* number = std::get_if<double>(&figure.value);
    const auto* histogram = std::get_if<const proto::Histogram*>(&figure.value);
    if (number == nullptr && histogram == nullptr) return;
    if (!absl::StrContains(figure.tag, '/')) return;  // step and time, which every event has
    auto& value = *event.mutable_summary()->add_value();
    value.set_tag(figure.tag);
    if (number != nullptr) {
      value.set_simple_value(static_cast<float>(*number));
    } else {
      Fill(**histogram, *value.mutable_histo());
    }
  });
  if (file_ == nullptr) ISTHMUS_RETURN_IF_ERROR(MakeFile());
  std::string piece = header_;
  AppendEvent(event, piece);
  ISTHMUS_RETURN_IF_ERROR(file_->Append(piece));
  header_.clear();
  return absl::OkStatus();
}

}  // namespace isthmus
