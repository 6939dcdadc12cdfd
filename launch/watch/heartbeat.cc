#include "launch/watch/heartbeat.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <exception>
#include <nlohmann/json.hpp>

#include "launch/watch/checked_page.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

std::string BeatText(const Heartbeat& beat) {
  nlohmann::ordered_json json = {{"nonce", beat.nonce}, {"since", beat.since},     {"rank", beat.rank},
                                 {"host", beat.host},   {"process", beat.process}, {"birth", beat.birth},
                                 {"beat", beat.beat},   {"step", beat.step},       {"phase", beat.phase}};
  json["groups"] = nlohmann::ordered_json::array();
  for (const CollectiveGroup& group : beat.groups) {
    json["groups"].push_back(
        {{"group", group.name}, {"root", group.root}, {"size", group.size}, {"started", group.started}});
  }
  if (beat.waiting.has_value()) {
    const Heartbeat::Wait& wait = *beat.waiting;
    json["waiting"] = {{"group", wait.group},   {"root", wait.root},           {"sequence", wait.sequence},
                       {"peer", wait.peer},     {"operation", wait.operation}, {"bytes", wait.bytes},
                       {"waited", wait.waited}, {"step", wait.step},           {"phase", wait.phase}};
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Heartbeat ParseBeat(const nlohmann::json& json) {
  Heartbeat beat;
  // Earlier versions of the program did not write these.
  beat.nonce = json.value("nonce", "");
  beat.since = json.value("since", "");
  beat.birth = json.value("birth", int64_t{0});
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
                    .waited = wait.value("waited", 0.0),
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
                    .waited = static_cast<double>(SteadyUnixNanos() - entry->start) * 1e-9,
                    .step = entry->place.step,
                    .phase = entry->place.phase};
  }
  return beat;
}

std::string HeartbeatPath(const std::string& folder, int rank) {
  return absl::StrFormat("%s/log/rank-%04d.heartbeat", folder, rank);
}

absl::Status WriteHeartbeat(const std::string& path, const Heartbeat& heartbeat) {
  return WriteCheckedPage(path, BeatText(heartbeat));
}

absl::StatusOr<Heartbeat> ReadHeartbeat(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, ReadCheckedPage(path));
  try {
    return ParseBeat(nlohmann::json::parse(text));
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": is not a heartbeat: ", error.what()));
  }
}

}  // namespace isthmus
