#include "launch/run/agreed_checkpoint.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/stored_file.h"
#include "launch/watch/same_start.h"
#include "parallel/host_bytes.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct Findings {
  int sound = 0, not_sound = 0, unreadable = 0;  // number of ranks
};

absl::StatusOr<Findings> Count(const absl::Status& mine, Communicator& world) {
  double counts[] = {mine.ok() ? 1.0 : 0.0, IsNotSound(mine) ? 1.0 : 0.0};
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(counts)));
  Findings found{.sound = static_cast<int>(counts[0]), .not_sound = static_cast<int>(counts[1])};
  found.unreadable = world.size() - found.sound - found.not_sound;
  return found;
}

// The errors are those of the ranks that could not read.
absl::Status ShareUnreadable(const absl::Status& mine, Communicator& world) {
  return AgreeOnStatus(world, IsNotSound(mine) ? absl::OkStatus() : mine);
}

// The first rank that found damage shares the place, and all others check it. Returns this rank's finding there.
absl::StatusOr<absl::Status> LookThereToo(const std::string& folder, const absl::Status& mine, Communicator& world) {
  const auto place = IsNotSound(mine) ? PlaceOf(mine) : std::nullopt;
  double first = place.has_value() ? world.rank() : world.size();
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&first, 1), Reduction::kMin));
  if (first == world.size()) return mine;
  std::string shared = place.has_value() ? Packed(*place) : "";
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, shared, static_cast<int>(first)));
  if (first == world.rank()) return mine;
  const auto there = UnpackedBytes(shared);
  if (!there.has_value()) return absl::InternalError("a rank's place in a checkpoint can't be read");
  return CheckStoredBytes(folder, *there);
}

}  // namespace

bool IsNotSound(const absl::Status& status) { return absl::IsDataLoss(status) || absl::IsNotFound(status); }

absl::StatusOr<std::vector<std::string>> AgreedCheckpoints(const absl::StatusOr<std::vector<std::string>>& mine,
                                                           Communicator& world) {
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, mine.status()));
  const std::string text = absl::StrJoin(*mine, "\n");
  std::string first = text;
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, first, 0));
  double differ = first == text ? 0 : 1;
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&differ, 1), Reduction::kMax));
  if (differ == 0) return *mine;
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> texts, AllGatherBytes(world, text));
  std::set<std::string> all;
  for (const std::string& each : texts) {
    for (const auto folder : absl::StrSplit(each, '\n', absl::SkipEmpty())) all.emplace(folder);
  }
  std::vector<std::string> folders(all.begin(), all.end());
  std::stable_sort(folders.begin(), folders.end(),
                   [](const auto& a, const auto& b) { return StepOfFolder(a) > StepOfFolder(b); });
  return folders;
}

absl::StatusOr<std::string> AgreedCheckpoint(const std::string& path, Communicator& world) {
  const auto mine = FindCheckpoint(path);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, mine.status()));
  std::string folder = *mine;
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, folder, 0));
  return folder;
}

absl::StatusOr<proto::CheckpointManifest> AgreedManifest(const std::string& folder, Communicator& world) {
  auto mine = ReadIdentifiedManifest(folder);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnReading(folder, mine.status(), world));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                           AllGatherBytes(world, absl::StrFormat("checksum %016x", mine->checksum)));
  ISTHMUS_RETURN_IF_ERROR(
      CheckAlike(all, absl::StrCat(folder, "/manifest.pb"), "make the same run folder visible on every node"));
  return std::move(mine->manifest);
}

absl::Status AgreeOnReading(const std::string& folder, const absl::Status& mine, Communicator& world) {
  if (world.size() == 1) return mine;
  ISTHMUS_ASSIGN_OR_RETURN(Findings found, Count(mine, world));
  if (found.unreadable > 0) return ShareUnreadable(mine, world);
  if (found.not_sound == 0) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const absl::Status there, LookThereToo(folder, mine, world));
  ISTHMUS_ASSIGN_OR_RETURN(found, Count(there, world));
  if (found.unreadable > 0) return ShareUnreadable(there, world);
  if (found.sound == 0) return AgreeOnStatus(world, mine);
  return AgreeOnStatus(
      world, there.ok() ? absl::OkStatus()
                        : absl::FailedPreconditionError(absl::StrCat(there.message(), "; yet ", found.sound, " of ",
                                                                     world.size(), " ranks read it without an error")));
}

}  // namespace isthmus
