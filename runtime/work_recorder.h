// The work of a step, call by call: operators with their costs, collectives from their start to the wait for them.
#ifndef ISTHMUS_RUNTIME_WORK_RECORDER_H_
#define ISTHMUS_RUNTIME_WORK_RECORDER_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/operator_cost.h"
#include "runtime/step_phase.h"
#include "runtime/stream.h"

namespace isthmus {

enum class CollectiveKind : uint8_t { kAllReduce, kReduceScatter, kAllGather, kBroadcast };
// "all-reduce", "reduce-scatter", "all-gather", "broadcast".
const char* CollectiveName(CollectiveKind kind);

// Calls that are alike in all recorded respects are one entry of RecordedWork.
struct OperatorCall {
  OperatorCost cost;
  StepPhase phase = StepPhase::kForward;
  std::string place;  // the innermost TraceRange around it (runtime/trace_range.h)

  friend bool operator==(const OperatorCall&, const OperatorCall&) = default;
};

struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int64_t bytes = 0;                      // of the whole buffer: the sum of an all-reduce, the result of an all-gather
  StepPhase phase = StepPhase::kForward;  // in which it starts
  std::string group;                      // Communicator::name()
  std::string place;

  friend bool operator==(const CollectiveCall&, const CollectiveCall&) = default;
};

struct RecordedWork {
  struct Event {
    enum class Kind : uint8_t { kOperator, kStart, kWait };

    Kind kind = Kind::kOperator;
    StepPhase phase = StepPhase::kForward;
    int call = 0;       // index in `operators` or `collectives`
    int ticket = 0;     // of a start and its wait: which of all collectives
    int64_t times = 1;  // more than one: of a dry run, which makes calls that are alike once
    friend bool operator==(const Event&, const Event&) = default;
  };

  std::vector<OperatorCall> operators;      // in the order of their first calls
  std::vector<CollectiveCall> collectives;  // the same
  std::vector<Event> timeline;

  // Returns how often each of `operators`, or of `collectives`, is called.
  std::vector<int64_t> OperatorCounts() const;
  std::vector<int64_t> CollectiveCounts() const;
};

// Notes what a stream is given (runtime/stream.h) and what groups send (parallel/recording_communicator.h). One thread
// uses it.
class WorkRecorder {
 public:
  void Enter(StepPhase phase) { phase_ = phase; }
  // Places nest.
  void EnterPlace(const char* name) { places_.push_back(name); }
  void LeavePlace() { places_.pop_back(); }
  // Calls that are recorded between the two happen `times` times. Repetitions nest. A collective must not reach into or
  // out of one.
  void BeginRepetition(int64_t times) { times_.push_back(times_.back() * times); }
  void EndRepetition() { times_.pop_back(); }

  void Operator(const OperatorCost& cost);
  // Returns the ticket for Wait. A second wait for the same ticket has no effect.
  int Start(CollectiveKind kind, const std::string& group, int64_t bytes);
  void Wait(int ticket);

  // Returns what was recorded, and begins anew.
  RecordedWork Take();

  // Returns addresses for `bytes` that no memory has: a dry stream computes nothing.
  char* Addresses(int64_t bytes);

 private:
  struct Pending {
    int ticket;
    int call;
  };

  const char* place() const { return places_.empty() ? "" : places_.back(); }

  RecordedWork work_;
  StepPhase phase_ = StepPhase::kForward;
  std::vector<const char*> places_;
  std::vector<int64_t> times_ = {1};
  std::vector<Pending> pending_;
  int tickets_ = 0;
  uintptr_t next_address_ = 0;  // 0: none was given out
};

// Makes the calls of a loop whose passes but the last do the same. In a dry run it calls visit(i) for i = 0, recorded
// as often as there are others, and for the last i. If the stream is not dry it calls visit for each i < count.
template <typename Visit>
absl::Status ForEachAlike(const Stream& stream, int64_t count, const Visit& visit) {
  const bool dry = stream.dry() && count > 2;
  for (int64_t i = 0; i < count; ++i) {
    if (dry && i == 0) stream.recorder()->BeginRepetition(count - 1);
    if (const absl::Status status = visit(i); !status.ok()) return status;
    if (!dry || i > 0) continue;
    stream.recorder()->EndRepetition();
    i = count - 2;
  }
  return absl::OkStatus();
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_WORK_RECORDER_H_
