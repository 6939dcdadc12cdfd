#include "runtime/telemetry/sinks.h"

#include <absl/strings/str_cat.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/caught.h"

namespace isthmus {

// The fan-out and its thread own this together: a sink that hangs must not find its memory gone.
struct Sinks::Worker {
  std::string name;
  SetDropped set_dropped = nullptr;
  std::shared_ptr<Notes> notes;
  std::unique_ptr<TelemetrySink> sink;  // the thread's
  std::atomic<int64_t> dropped = 0;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<const proto::TelemetryRecord>> queue;
  bool closing = false, done = false;
  bool lost = false;  // no thread could be started

  std::thread thread;

  // Without memory for the words they are lost.
  template <typename... Words>
  void Tell(const Words&... words) {
    Caught([&] {
      notes->Add(absl::StrCat(name, ": ", words...));
      return absl::OkStatus();
    }).IgnoreError();
  }

  void Run() {
    // A nice value is a thread's own on Linux. Where all cores are busy telemetry gets about a tenth of one, and so do
    // the threads that a sink starts.
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 10);
    bool failing = false;
    for (;;) {
      std::shared_ptr<const proto::TelemetryRecord> record;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return closing || !queue.empty(); });
        if (queue.empty()) break;
        record = std::move(queue.front());
        queue.pop_front();
      }
      const absl::Status status = Caught([&] { return sink->Write(*record); });
      if (!status.ok()) ++dropped;
      if (!status.ok() && !failing) Tell(status.message(), "; records are lost to it");
      if (status.ok() && failing) Tell("works again; ", dropped.load(), " records were lost");
      failing = !status.ok();
    }
    if (const absl::Status status = Caught([&] { return sink->Finish(); }); !status.ok()) {
      Tell(status.message());
    }
    sink.reset();
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  }
};

Sinks::Sinks(size_t queue_length) : queue_length_(queue_length), notes_(std::make_shared<Notes>()) {}

Sinks::~Sinks() { Close(kCloseDeadline); }

void Sinks::Add(std::unique_ptr<TelemetrySink> sink, SetDropped set_dropped) {
  auto worker = std::make_shared<Worker>();
  worker->name = sink->name();
  worker->set_dropped = set_dropped;
  worker->notes = notes_;
  worker->sink = std::move(sink);
  const absl::Status started = Caught([&] {
    worker->thread = std::thread([worker] { worker->Run(); });
    return absl::OkStatus();
  });
  if (!started.ok()) {
    notes_->Add(absl::StrCat(worker->name, ": ", started.message(), "; all records are lost to it"));
    worker->closing = worker->done = worker->lost = true;
  }
  workers_.push_back(std::move(worker));
}

void Sinks::Publish(proto::TelemetryRecord record) {
  for (const auto& worker : workers_) (record.mutable_sinks()->*worker->set_dropped)(worker->dropped);
  const auto shared = std::make_shared<const proto::TelemetryRecord>(std::move(record));
  for (const auto& worker : workers_) {
    const std::lock_guard lock(worker->mutex);
    if (worker->closing || worker->queue.size() >= queue_length_) {
      // This is said once per sink, when it starts.
      if (worker->dropped++ == 0 && !worker->lost)
        notes_->Add(absl::StrCat(worker->name, ": does not keep up; records are lost to it"));
      continue;
    }
    worker->queue.push_back(shared);
    worker->changed.notify_all();
  }
}

void Sinks::Close(absl::Duration deadline) {
  if (std::exchange(closed_, true)) return;
  const auto end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
  for (const auto& worker : workers_) {
    const std::lock_guard lock(worker->mutex);
    worker->closing = true;
    worker->changed.notify_all();
  }
  for (const auto& worker : workers_) {
    std::unique_lock lock(worker->mutex);
    if (worker->changed.wait_until(lock, end, [&] { return worker->done; })) {
      lock.unlock();
      if (worker->thread.joinable()) worker->thread.join();
      continue;
    }
    // The one being written may be lost too.
    const auto lost = static_cast<int64_t>(worker->queue.size()) + 1;
    worker->queue.clear();
    worker->dropped += lost;
    lock.unlock();
    worker->thread.detach();
    notes_->Add(absl::StrCat(worker->name, ": did not finish in ", absl::FormatDuration(deadline), "; up to ", lost,
                             " records are lost"));
  }
}

int64_t Sinks::dropped(size_t index) const { return workers_[index]->dropped; }

}  // namespace isthmus
