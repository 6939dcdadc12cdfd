// Hands each telemetry record to all sinks of a run, none of which can slow or stop it.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_SINKS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_SINKS_H_

#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/notes.h"
#include "runtime/telemetry/sink.h"

namespace isthmus {

// Every sink has a queue of bounded length and a thread, of lower priority than training. A record that finds the queue
// full, or that the sink fails to write, is lost to that sink alone and counted. One thread uses this class.
class Sinks {
 public:
  static constexpr size_t kQueueLength = 256;
  static constexpr absl::Duration kCloseDeadline = absl::Seconds(5);

  explicit Sinks(size_t queue_length = kQueueLength);
  // Closes with kCloseDeadline.
  ~Sinks();
  Sinks(const Sinks&) = delete;
  Sinks& operator=(const Sinks&) = delete;

  // The field of proto::SinksRecord that counts what a sink lost.
  using SetDropped = void (proto::SinksRecord::*)(int64_t);
  void Add(std::unique_ptr<TelemetrySink> sink, SetDropped set_dropped);

  // Adds the counts of lost records and hands the record out; never waits for a sink.
  void Publish(proto::TelemetryRecord record);

  // Returns the sinks' messages since the last call. A failure is told once, not for each record; its end is told, too.
  std::vector<std::string> TakeNotes() { return notes_->Take(); }
  // The notes, for sinks that add their own.
  const std::shared_ptr<Notes>& notes() const { return notes_; }

  // Waits until all records are written, at most as long as `deadline`. A sink that takes longer is left behind, with a
  // note that says what is lost. Nothing can be published afterwards.
  void Close(absl::Duration deadline);

  // Number of records lost to the sink that was added at place `index`.
  int64_t dropped(size_t index) const;

 private:
  struct Worker;
  size_t queue_length_;
  std::shared_ptr<Notes> notes_;
  std::vector<std::shared_ptr<Worker>> workers_;
  bool closed_ = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_SINKS_H_
