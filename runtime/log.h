// One rank's log file.
#ifndef ISTHMUS_RUNTIME_LOG_H_
#define ISTHMUS_RUNTIME_LOG_H_

#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/async_writer.h"

namespace spdlog {
class logger;
}

namespace isthmus {

// Appends lines "time level rank step message" to folder/log/rank-0000.log. A thread of its own writes them: no call
// waits for the file (runtime/async_writer.h). Lines that can't be written, because the disk is full or stands still,
// are dropped and counted. The log says so where it goes on. A log never stops a run. Thread-safe.
class Log {
 public:
  // Errors: by errno for the folder and the file; a named pipe needs a reader.
  static absl::StatusOr<std::unique_ptr<Log>> Open(const std::string& folder, int rank);
  // Makes a log that drops all lines, for a disk without room for the file.
  static std::unique_ptr<Log> Nowhere(int rank);
  // Waits until the lines are written, at most as long as AsyncWriter::kFlushDeadline.
  ~Log();

  void Info(const std::string& message);
  void Warning(const std::string& message);
  void Error(const std::string& message);

  // Sets the step to which the following lines belong; 0 before the first.
  void set_step(int64_t step) { step_ = step; }
  // Call this before the process ends without its destructors. It acts like ~Log, but the log can be used afterwards.
  void Flush();
  // Number of lines that could not be written.
  int64_t dropped() const { return writer_ != nullptr ? writer_->lost() : 0; }

 private:
  Log(std::shared_ptr<spdlog::logger> logger, std::shared_ptr<AsyncWriter> writer, int rank);

  std::shared_ptr<spdlog::logger> logger_;
  std::shared_ptr<AsyncWriter> writer_;  // null: lines go nowhere
  int rank_;
  std::atomic<int64_t> step_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_LOG_H_
