// One rank's log file.
#ifndef ISTHMUS_RUNTIME_LOG_H_
#define ISTHMUS_RUNTIME_LOG_H_

#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace spdlog {
class logger;
}

namespace isthmus {

// Lines "time level rank step message" in folder/log/rank-0000.log, appended to what is there, flushed at each line. A
// line that can't be written (full disk) is dropped and counted: a log never stops a run. Thread-safe.
class Log {
 public:
  // Errors: by errno for the folder and the file.
  static absl::StatusOr<std::unique_ptr<Log>> Open(const std::string& folder, int rank);
  ~Log();

  void Info(const std::string& message);
  void Warning(const std::string& message);
  void Error(const std::string& message);

  // The step that following lines belong to; 0 before the first.
  void set_step(int64_t step) { step_ = step; }
  // Lines that could not be written.
  int64_t dropped() const { return *dropped_; }

 private:
  Log(std::shared_ptr<spdlog::logger> logger, std::shared_ptr<std::atomic<int64_t>> dropped, int rank);

  std::shared_ptr<spdlog::logger> logger_;
  std::shared_ptr<std::atomic<int64_t>> dropped_;
  int rank_;
  std::atomic<int64_t> step_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_LOG_H_
