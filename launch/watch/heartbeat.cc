#include "launch/watch/heartbeat.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <nlohmann/json.hpp>

#include "runtime/crc32c.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kPage = 4096;
// Far more than any heartbeat has.
constexpr int64_t kMostBytes = int64_t{1} << 20;

std::string BeatText(const Heartbeat& beat) {
  nlohmann::ordered_json json = {{"rank", beat.rank}, {"host", beat.host}, {"process", beat.process},
                                 {"beat", beat.beat}, {"step", beat.step}, {"phase", beat.phase}};
  json["groups"] = nlohmann::ordered_json::array();
  for (const CollectiveGroup& group : beat.groups) {
    json["groups"].push_back(
        {{"group", group.name}, {"root", group.root}, {"size", group.size}, {"started", group.started}});
  }
  if (beat.waiting.has_value()) {
    const Heartbeat::Wait& wait = *beat.waiting;
    json["waiting"] = {{"group", wait.group}, {"root", wait.root},           {"sequence", wait.sequence},
                       {"peer", wait.peer},   {"operation", wait.operation}, {"bytes", wait.bytes},
                       {"since", wait.since}, {"step", wait.step},           {"phase", wait.phase}};
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Heartbeat ParseBeat(const nlohmann::json& json) {
  Heartbeat beat;
  json.at("rank").get_to(beat.rank);
  json.at("host").get_to(beat.host);
  json.at("process").get_to(beat.process);
  json.at("beat").get_to(beat.beat);
  json.at("step").get_to(beat.step);
  json.at("phase").get_to(beat.phase);
  for (const auto& group : json.at("groups")) {
    beat.groups.push_back({.name = group.at("group"),
                           .root = group.at("root"),
                           .size = group.at("size"),
                           .started = group.at("started")});
  }
  if (json.contains("waiting")) {
    const auto& wait = json.at("waiting");
    beat.waiting = {.group = wait.at("group"),
                    .root = wait.at("root"),
                    .sequence = wait.at("sequence"),
                    .peer = wait.at("peer"),
                    .operation = wait.at("operation"),
                    .bytes = wait.at("bytes"),
                    .since = wait.at("since"),
                    .step = wait.at("step"),
                    .phase = wait.at("phase")};
  }
  return beat;
}

}  // namespace

Heartbeat HeartbeatOf(const CollectiveRing& ring) {
  Heartbeat beat;
  const Whereabouts::Place place = ring.whereabouts().place();
  beat.step = place.step;
  beat.phase = place.phase;
  beat.groups = ring.groups();
  if (const auto entry = ring.waiting(); entry.has_value()) {
    const CollectiveGroup& group = beat.groups[static_cast<size_t>(entry->group)];
    beat.waiting = {.group = group.name,
                    .root = group.root,
                    .sequence = entry->sequence,
                    .peer = entry->peer,
                    .operation = entry->operation,
                    .bytes = entry->bytes,
                    .since = static_cast<double>(entry->start) * 1e-9,
                    .step = entry->place.step,
                    .phase = entry->place.phase};
  }
  return beat;
}

std::string HeartbeatPath(const std::string& folder, int rank) {
  return absl::StrFormat("%s/log/rank-%04d.heartbeat", folder, rank);
}

absl::Status WriteHeartbeat(const std::string& path, const Heartbeat& heartbeat) {
  std::string text = BeatText(heartbeat);
  absl::StrAppendFormat(&text, "\n%08x\n", Crc32c(text));
  text.resize((text.size() + kPage - 1) / kPage * kPage, ' ');
  // Closed each time: that is when a network file system shows the others what was written.
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return FileError(path, "can't open the heartbeat", errno);
  absl::Status status;
  if (pwrite(file, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    status = FileError(path, "can't write the heartbeat", errno);
  }
  if (close(file) != 0) status.Update(FileError(path, "can't write the heartbeat", errno));
  return status;
}

absl::StatusOr<Heartbeat> ReadHeartbeat(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string page, ReadFile(path, kMostBytes));
  const size_t end = page.find('\n');
  const absl::string_view text(page.data(), std::min(end, page.size()));
  if (end == std::string::npos || page.compare(end + 1, 9, absl::StrFormat("%08x\n", Crc32c(text))) != 0) {
    return absl::DataLossError(absl::StrCat(path, ": is not a whole heartbeat"));
  }
  try {
    return ParseBeat(nlohmann::json::parse(text));
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": is not a heartbeat: ", error.what()));
  }
}

}  // namespace isthmus
