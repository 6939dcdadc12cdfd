// Messages for the log from threads that may not write to it.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_NOTES_H_
#define ISTHMUS_RUNTIME_TELEMETRY_NOTES_H_

#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {

// This class is thread-safe. It holds a bounded number of notes; more are left out until they are taken.
class Notes {
 public:
  void Add(std::string note) {
    const std::lock_guard lock(mutex_);
    if (notes_.size() < kMost) notes_.push_back(std::move(note));
  }
  std::vector<std::string> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(notes_, {});
  }

 private:
  static constexpr size_t kMost = 64;
  std::mutex mutex_;
  std::vector<std::string> notes_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_NOTES_H_
