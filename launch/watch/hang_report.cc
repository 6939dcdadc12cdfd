#include "launch/watch/hang_report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace isthmus {
namespace {

// Longer lists are cut, and the rest is counted.
constexpr size_t kNamed = 8;

bool HasNotEntered(const Heartbeat& rank, const Heartbeat::Wait& wait) {
  if (wait.peer >= 0) return rank.rank == wait.peer;
  return std::any_of(rank.groups.begin(), rank.groups.end(), [&](const CollectiveGroup& group) {
    return group.name == wait.group && group.root == wait.root && group.started < wait.sequence;
  });
}

bool IsTheSame(const Heartbeat::Wait& a, const Heartbeat::Wait& b) {
  return a.group == b.group && a.root == b.root && a.sequence == b.sequence && a.peer == b.peer;
}

// Returns the heartbeat of the rank that has waited longest for an operation that `rank` has not entered.
const Heartbeat* WaitsForIt(const Heartbeat& rank, const std::vector<RankSighting>& ranks) {
  const Heartbeat* longest = nullptr;
  for (const auto& [other, silent] : ranks) {
    if (!other.has_value() || !other->waiting.has_value() || !HasNotEntered(rank, *other->waiting)) continue;
    if (longest == nullptr || other->waiting->waited > longest->waiting->waited) longest = &*other;
  }
  return longest;
}

std::string Ranks(const std::vector<int>& ranks) {
  const size_t named = std::min(ranks.size(), kNamed);
  std::string text = absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ",
                                  absl::StrJoin(ranks.begin(), ranks.begin() + static_cast<int>(named), ", "));
  if (ranks.size() > named) absl::StrAppend(&text, " and ", ranks.size() - named, " others");
  return text;
}

std::string Operation(const Heartbeat::Wait& wait) {
  if (wait.peer >= 0) return absl::StrFormat("%s rank %d (%d bytes)", wait.operation, wait.peer, wait.bytes);
  return absl::StrFormat("%s #%d (%d bytes) of the %s group", wait.operation, wait.sequence, wait.bytes, wait.group);
}

std::string LateLine(int rank, const std::vector<RankSighting>& ranks) {
  const RankSighting& sighting = ranks[static_cast<size_t>(rank)];
  if (!sighting.heartbeat.has_value()) return absl::StrCat("late: rank ", rank, ": has left no sign of life");
  const Heartbeat& beat = *sighting.heartbeat;
  std::string text = absl::StrCat("late: rank ", rank, " (process ", beat.process, " on ", beat.host, "), ",
                                  sighting.silent ? "which shows no sign of life: its process has stopped, or its "
                                                    "machine or the way to the run folder is gone; "
                                                  : "whose process is alive; ");
  if (const Heartbeat* waits = WaitsForIt(beat, ranks); waits != nullptr) {
    std::vector<int> waiting;
    for (const auto& [other, silent] : ranks) {
      const bool same = other.has_value() && other->waiting.has_value() && IsTheSame(*other->waiting, *waits->waiting);
      if (same) waiting.push_back(other->rank);
    }
    absl::StrAppendFormat(&text, "it has not %s %s, for which %s ha%s waited for %.0f s in step %d, %s; ",
                          waits->waiting->peer < 0 ? "entered" : "answered", Operation(*waits->waiting), Ranks(waiting),
                          waiting.size() == 1 ? "s" : "ve", waits->waiting->waited, waits->waiting->step,
                          waits->waiting->phase);
  } else if (beat.waiting.has_value()) {
    absl::StrAppend(&text, "it is in ", Operation(*beat.waiting), "; ");
  }
  absl::StrAppend(&text, "last seen in step ", beat.step, ", ", beat.phase);
  return text;
}

}  // namespace

std::vector<int> LateRanks(const std::vector<RankSighting>& ranks) {
  std::vector<int> causes, late;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto& heartbeat = ranks[rank].heartbeat;
    const bool missed = heartbeat.has_value() && WaitsForIt(*heartbeat, ranks) != nullptr;
    if (missed) late.push_back(static_cast<int>(rank));
    if (ranks[rank].silent || (missed && !heartbeat->waiting.has_value())) causes.push_back(static_cast<int>(rank));
  }
  return causes.empty() ? late : causes;
}

std::string HangReport(const std::vector<RankSighting>& ranks, absl::string_view failure) {
  std::string text(failure);
  const std::vector<int> late = LateRanks(ranks);
  for (size_t i = 0; i < std::min(late.size(), kNamed); ++i) {
    absl::StrAppend(&text, "\n", LateLine(late[i], ranks));
  }
  if (late.size() > kNamed) absl::StrAppend(&text, "\nand ", late.size() - kNamed, " other late ranks");
  if (late.empty()) {
    absl::StrAppend(&text,
                    "\nno rank is late: all live and have entered what others wait for; look at the network between "
                    "them, or at what else failed");
  }
  return text;
}

std::string RingText(const CollectiveRing& ring, absl::string_view nonce) {
  const auto groups = ring.groups();
  const auto seconds = [](int64_t nanoseconds) {
    return nanoseconds == 0 ? nlohmann::ordered_json()
                            : nlohmann::ordered_json(static_cast<double>(nanoseconds) * 1e-9);
  };
  std::string text;
  for (const CollectiveEntry& entry : ring.entries()) {
    const CollectiveGroup& group = groups[static_cast<size_t>(entry.group)];
    const nlohmann::ordered_json json = {{"group", group.name},
                                         {"root", group.root},
                                         {"sequence", entry.sequence},
                                         {"peer", entry.peer},
                                         {"operation", entry.operation},
                                         {"bytes", entry.bytes},
                                         {"start", seconds(entry.start)},
                                         {"end", seconds(entry.end)},
                                         {"step", entry.place.step},
                                         {"phase", entry.place.phase},
                                         {"nonce", nonce}};
    absl::StrAppend(&text, json.dump(), "\n");
  }
  return text;
}

}  // namespace isthmus
