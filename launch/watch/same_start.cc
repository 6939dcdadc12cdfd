#include "launch/watch/same_start.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <vector>

#include "launch/watch/build_id.h"
#include "parallel/host_bytes.h"
#include "runtime/config.h"
#include "runtime/crc32c.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

// If more ranks differ, the rest is counted.
constexpr size_t kNamedRanks = 8;

}  // namespace

absl::Status CheckAlike(absl::Span<const std::string> found, absl::string_view what, absl::string_view remedy) {
  std::map<std::string, std::vector<size_t>> ranks;
  for (size_t rank = 0; rank < found.size(); ++rank) {
    if (!found[rank].empty()) ranks[found[rank]].push_back(rank);
  }
  if (ranks.size() < 2) return absl::OkStatus();
  // If several are equally frequent, the one of the lowest rank is taken to be right.
  const auto most = std::max_element(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) {
    return a.second.size() != b.second.size() ? a.second.size() < b.second.size() : a.second[0] > b.second[0];
  });
  std::vector<size_t> others;
  for (const auto& [text, have] : ranks) {
    if (text != most->first) others.insert(others.end(), have.begin(), have.end());
  }
  std::sort(others.begin(), others.end());
  const size_t named = std::min(others.size(), kNamedRanks);
  return absl::FailedPreconditionError(
      absl::StrCat(others.size() == 1 ? "rank " : "ranks ",
                   absl::StrJoin(others.begin(), others.begin() + static_cast<int>(named), ", "),
                   others.size() > named ? absl::StrCat(" and ", others.size() - named, " more") : "",
                   others.size() == 1 ? " has another " : " have another ", what, ": ", found[others.front()],
                   "; rank ", most->second.front(), " has: ", most->first, "; ", remedy));
}

absl::Status CheckSameProgram(Communicator& world, absl::Span<const std::string> arguments) {
  if (world.size() == 1) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> builds,
                           AllGatherBytes(world, absl::StrCat("version ", kVersion, ", build ", BuildId())));
  ISTHMUS_RETURN_IF_ERROR(
      CheckAlike(builds, "build of the program", "start all ranks with the same file, and install it on every node"));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> lines,
                           AllGatherBytes(world, absl::StrCat("isthmus ", absl::StrJoin(arguments, " "))));
  return CheckAlike(lines, "command line", "start all ranks with the same one");
}

absl::Status CheckSameFile(Communicator& world, const std::string& path) {
  if (world.size() == 1) return absl::OkStatus();
  std::string found;
  std::error_code ignored;
  // A path that is not a regular file, a pipe for example, can be read once only.
  if (std::filesystem::is_regular_file(path, ignored)) {
    const auto text = ReadFile(path, kMostConfigBytes);
    if (text.ok()) found = absl::StrFormat("%d bytes with checksum %08x", text->size(), Crc32c(*text));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> all, AllGatherBytes(world, found));
  return CheckAlike(all, absl::StrCat("file ", path), "copy the right one to every node");
}

}  // namespace isthmus
