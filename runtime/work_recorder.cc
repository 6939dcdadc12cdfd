#include "runtime/work_recorder.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace isthmus {
namespace {

// Returns the index of `call` among `calls`, to which it is added if it is new. A step has some dozens of different
// calls.
template <typename Call>
int IndexIn(std::vector<Call>& calls, Call call) {
  const auto found = std::find(calls.begin(), calls.end(), call);
  const auto index = static_cast<int>(found - calls.begin());
  if (found == calls.end()) calls.push_back(std::move(call));
  return index;
}

std::vector<int64_t> Counts(const RecordedWork& work, RecordedWork::Event::Kind kind, size_t size) {
  std::vector<int64_t> counts(size, 0);
  for (const RecordedWork::Event& event : work.timeline) {
    if (event.kind == kind) counts[static_cast<size_t>(event.call)] += event.times;
  }
  return counts;
}

// The address is far from anything that a process maps, and a multiple of every alignment.
constexpr uintptr_t kFirstAddress = uintptr_t{1} << 52;
constexpr uintptr_t kAddressMultiple = 4096;

}  // namespace

const char* CollectiveName(CollectiveKind kind) {
  constexpr const char* kNames[] = {"all-reduce", "reduce-scatter", "all-gather", "broadcast"};
  return kNames[static_cast<int>(kind)];
}

std::vector<int64_t> RecordedWork::OperatorCounts() const {
  return Counts(*this, Event::Kind::kOperator, operators.size());
}

std::vector<int64_t> RecordedWork::CollectiveCounts() const {
  return Counts(*this, Event::Kind::kStart, collectives.size());
}

void WorkRecorder::Operator(const OperatorCost& cost) {
  const int call = IndexIn(work_.operators, {cost, phase_, place()});
  work_.timeline.push_back({RecordedWork::Event::Kind::kOperator, phase_, call, 0, times_.back()});
}

int WorkRecorder::Start(CollectiveKind kind, const std::string& group, int64_t bytes) {
  const int call = IndexIn(work_.collectives, {kind, bytes, phase_, group, place()});
  pending_.push_back({tickets_, call});
  work_.timeline.push_back({RecordedWork::Event::Kind::kStart, phase_, call, tickets_, times_.back()});
  return tickets_++;
}

void WorkRecorder::Wait(int ticket) {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [ticket](const Pending& pending) { return pending.ticket == ticket; });
  if (found == pending_.end()) return;
  work_.timeline.push_back({RecordedWork::Event::Kind::kWait, phase_, found->call, ticket, times_.back()});
  pending_.erase(found);
}

RecordedWork WorkRecorder::Take() {
  pending_.clear();
  tickets_ = 0;
  phase_ = StepPhase::kForward;
  return std::exchange(work_, {});
}

char* WorkRecorder::Addresses(int64_t bytes) {
  if (next_address_ == 0) next_address_ = kFirstAddress;
  const uintptr_t begin = next_address_;
  next_address_ += (static_cast<uintptr_t>(bytes) + kAddressMultiple - 1) / kAddressMultiple * kAddressMultiple;
  return reinterpret_cast<char*>(begin);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace isthmus
