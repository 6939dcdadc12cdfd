#include "parallel/collective_ring.h"

#include <algorithm>

#include "runtime/monotonic.h"

namespace isthmus {

int CollectiveRing::AddGroup(const std::string& name, int root, int size) {
  const std::lock_guard lock(mutex_);
  const auto same = std::find_if(groups_.begin(), groups_.end(), [&](const CollectiveGroup& group) {
    return group.name == name && group.root == root;
  });
  const CollectiveGroup group{.name = name, .root = root, .size = size};
  if (same == groups_.end()) {
    groups_.push_back(group);
    return static_cast<int>(groups_.size()) - 1;
  }
  *same = group;
  return static_cast<int>(same - groups_.begin());
}

int64_t CollectiveRing::Start(int group, int64_t sequence, const char* operation, int64_t bytes) {
  return Add({.group = group, .sequence = sequence, .operation = operation, .bytes = bytes});
}

int64_t CollectiveRing::StartMessage(int group, int peer, const char* operation, int64_t bytes) {
  return Add({.group = group, .peer = peer, .operation = operation, .bytes = bytes});
}

int64_t CollectiveRing::Add(const CollectiveEntry& entry) {
  const int64_t now = SteadyUnixNanos();
  const std::lock_guard lock(mutex_);
  if (entry.peer < 0) groups_[static_cast<size_t>(entry.group)].started = entry.sequence;
  CollectiveEntry& place = At(next_);
  place = entry;
  place.start = now;
  place.place = whereabouts_.place();
  return next_++;
}

void CollectiveRing::End(int64_t number) {
  const int64_t now = SteadyUnixNanos();
  const std::lock_guard lock(mutex_);
  if (next_ - number <= static_cast<int64_t>(kLength)) At(number).end = now;
  if (number != waiting_number_) return;
  waiting_number_ = -1;
  waiting_.reset();
}

void CollectiveRing::EndBefore(int group, int64_t sequence) {
  const int64_t now = SteadyUnixNanos();
  const std::lock_guard lock(mutex_);
  for (CollectiveEntry& entry : entries_) {
    if (entry.group == group && entry.sequence >= 0 && entry.sequence < sequence && entry.end == 0) entry.end = now;
  }
}

void CollectiveRing::Wait(int64_t number) {
  const std::lock_guard lock(mutex_);
  waiting_number_ = number;
  if (next_ - number > static_cast<int64_t>(kLength)) return;
  waiting_ = At(number);
  waiting_->place = whereabouts_.place();
}

void CollectiveRing::Wait(int group, int64_t sequence) {
  const std::lock_guard lock(mutex_);
  waiting_ = CollectiveEntry{.group = group, .sequence = sequence, .operation = "operation"};
  for (const CollectiveEntry& entry : entries_) {
    if (entry.group == group && entry.sequence == sequence) waiting_ = entry;
  }
  waiting_->place = whereabouts_.place();
}

std::vector<CollectiveGroup> CollectiveRing::groups() const {
  const std::lock_guard lock(mutex_);
  return groups_;
}

std::optional<CollectiveEntry> CollectiveRing::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

std::vector<CollectiveEntry> CollectiveRing::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<CollectiveEntry> entries;
  const auto next = static_cast<size_t>(next_);
  for (size_t number = next - std::min(next, kLength); number < next; ++number) {
    entries.push_back(entries_[number % kLength]);
  }
  return entries;
}

}  // namespace isthmus
