#include "launch/watch/other_ranks.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>

#include "launch/watch/leftovers.h"

namespace isthmus {

OtherRanks::OtherRanks(RankOfStart self, absl::Duration stale_age, std::shared_ptr<Log> log)
    : self_(std::move(self)), log_(std::move(log)), ages_(self_.ranks, stale_age) {}

void OtherRanks::Look(absl::Duration now) {
  // There may be many small files on a shared file system: no more than a hundred are read a second.
  for (int looks = 0; looks < std::min(self_.ranks, 100); ++looks) {
    next_ = (next_ + 1) % self_.ranks;
    const auto beat = ReadHeartbeat(HeartbeatPath(self_.folder, next_));
    if (!beat.ok()) continue;
    if (beat->nonce != self_.mark.nonce) LookAtLeftover(*beat);
    if (beat->nonce != self_.mark.nonce || next_ == self_.rank) continue;
    const HeartbeatAges::News news = ages_.Observe(next_, beat->beat, now);
    if (news == HeartbeatAges::News::kBack) log_->Warning(absl::StrCat("rank ", next_, " shows signs of life again"));
    if (news != HeartbeatAges::News::kStale) continue;
    ++stale_;
    log_->Warning(absl::StrFormat(
        "rank %d (process %d on %s) has shown no sign of life for %.0f s; last seen in step %d, %s", next_,
        beat->process, beat->host, absl::ToDoubleSeconds(ages_.Age(next_, now)), beat->step, beat->phase));
  }
}

void OtherRanks::LookAtLeftover(const Heartbeat& beat) {
  Heartbeat& before = leftovers_[beat.rank];
  const bool known = before.nonce == beat.nonce && before.process == beat.process;
  if (known && beat.beat > before.beat && told_.insert(DescribeLeftover(beat)).second) {
    log_->Warning(absl::StrCat(DescribeLeftover(beat), " still lives and writes to the run folder; it is passed over"));
  }
  before = beat;
}

}  // namespace isthmus
