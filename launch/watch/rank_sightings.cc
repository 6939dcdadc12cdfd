#include "launch/watch/rank_sightings.h"

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <utility>

#include "launch/watch/heartbeat.h"

namespace isthmus {
namespace {

// Returns the rank's beat, which is kept in `sighting`; -1 if none can be read.
int64_t SeeBeat(const RankOfStart& self, size_t rank, RankSighting& sighting) {
  const std::string path = HeartbeatPath(self.folder, static_cast<int>(rank));
  auto beat = ReadHeartbeat(path);
  // The page may have been read while it was written.
  if (absl::IsDataLoss(beat.status())) beat = ReadHeartbeat(path);
  if (!beat.ok() || beat->nonce != self.mark.nonce) return -1;
  sighting.heartbeat = *std::move(beat);
  return sighting.heartbeat->beat;
}

}  // namespace

std::vector<RankSighting> LookAtRanks(const RankOfStart& self, absl::FunctionRef<void()> wait) {
  std::vector<RankSighting> sightings(static_cast<size_t>(self.ranks));
  std::vector<int64_t> beats;
  for (size_t rank = 0; rank < sightings.size(); ++rank) beats.push_back(SeeBeat(self, rank, sightings[rank]));
  wait();
  for (size_t rank = 0; rank < sightings.size(); ++rank) {
    sightings[rank].silent = SeeBeat(self, rank, sightings[rank]) == beats[rank];
  }
  // If even this rank's file is not renewed, the file system is to blame, and says nothing of others.
  if (sightings[static_cast<size_t>(self.rank)].silent) {
    for (RankSighting& sighting : sightings) sighting.silent = false;
  }
  return sightings;
}

}  // namespace isthmus
