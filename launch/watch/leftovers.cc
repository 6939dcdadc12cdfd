#include "launch/watch/leftovers.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "launch/watch/start_mark.h"
#include "parallel/host_bytes.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

std::vector<Heartbeat> AllHeartbeats(const std::string& folder, int ranks) {
  std::vector<Heartbeat> found;
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder + "/log", ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::string path = entry->path();
    if (!absl::EndsWith(path, ".heartbeat")) continue;
    const auto beat = ReadHeartbeat(path);
    if (!beat.ok()) continue;
    found.push_back(*beat);
    // A start of one rank has no heartbeats.
    if (beat->rank >= ranks || ranks == 1) unlink(path.c_str());
  }
  std::sort(found.begin(), found.end(), [](const Heartbeat& a, const Heartbeat& b) { return a.rank < b.rank; });
  return found;
}

}  // namespace

std::string DescribeLeftover(const Heartbeat& heartbeat) {
  return absl::StrCat("rank ", heartbeat.rank, " of an earlier start (process ", heartbeat.process, " on ",
                      heartbeat.host, heartbeat.since.empty() ? "" : ", since ", heartbeat.since, ")");
}

int64_t ProcessBirth(int64_t process) {
  const auto text = ReadFile(absl::StrCat("/proc/", process, "/stat"));
  if (!text.ok()) return 0;
  // By proc(5) the file has the number, the name in brackets (it may have any characters), then fields 3 (state) to 22
  // (birth) and more.
  constexpr size_t kState = 0, kBirth = 22 - 3;
  const size_t name = text->rfind(") ");
  if (name == std::string::npos) return 0;
  const std::vector<std::string> fields = absl::StrSplit(text->substr(name + 2), ' ');
  int64_t birth = 0;
  // A zombie has ended; its parent has not collected its status yet.
  if (fields.size() <= kBirth || fields[kState] == "Z" || !absl::SimpleAtoi(fields[kBirth], &birth)) return 0;
  return birth;
}

absl::StatusOr<Leftovers> FindLeftovers(const std::string& folder, Communicator& world) {
  std::vector<Heartbeat> others;
  if (world.rank() == 0) others = AllHeartbeats(folder, world.size());
  std::string text;
  for (const Heartbeat& other : others) absl::StrAppend(&text, other.process, " ", other.birth, " ", other.host, "\n");
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, text, 0));
  // Tells for each heartbeat whether its process lives on this rank's machine.
  constexpr char kLives = '1', kEnded = '0', kElsewhere = '?';
  std::string here;
  const std::string host = HostName();
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    int64_t process = 0, birth = 0;
    const bool told =
        fields.size() == 3 && absl::SimpleAtoi(fields[0], &process) && absl::SimpleAtoi(fields[1], &birth);
    const bool lives = told && birth > 0 && ProcessBirth(process) == birth;
    here += !told || fields[2] != host ? kElsewhere : lives ? kLives : kEnded;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> found, GatherBytes(world, here));
  Leftovers leftovers;
  for (size_t i = 0; i < others.size(); ++i) {
    const auto any = [&](char state) {
      return std::any_of(found.begin(), found.end(), [&](const std::string& rank) { return rank[i] == state; });
    };
    if (any(kLives)) {
      leftovers.alive.push_back(others[i]);
    } else if (!any(kEnded)) {
      leftovers.elsewhere.push_back(others[i]);
    }
  }
  return leftovers;
}

}  // namespace isthmus
