// Lets other threads run while a rank polls for the end of a collective.
#ifndef ISTHMUS_PARALLEL_GIVE_WAY_H_
#define ISTHMUS_PARALLEL_GIVE_WAY_H_

#include <chrono>
#include <thread>

namespace isthmus {

// On a core of its own a rank comes back from a yield at once. On a core that it shares, even with work of the lowest
// priority, a yield may take the scheduler's whole time slice: some milliseconds in each collective. A short sleep gives
// way as well, and the rank then wakes up before work of lower priority. Not thread-safe.
class GiveWay {
 public:
  // Returns the number of polls that come before: a collective within a node ends sooner than the scheduler returns.
  int Spins() const { return std::chrono::steady_clock::now() < shared_until_ ? 20 : 200; }
  void operator()() {
    const auto start = std::chrono::steady_clock::now();
    if (start < shared_until_) {
      std::this_thread::sleep_for(kNap);
      return;
    }
    std::this_thread::yield();
    const auto end = std::chrono::steady_clock::now();
    if (end - start > kLongYield) shared_until_ = end + kSharedFor;
  }

 private:
  static constexpr std::chrono::microseconds kNap{20}, kLongYield{300};
  // A yield is tried again after so long.
  static constexpr std::chrono::milliseconds kSharedFor{500};
  std::chrono::steady_clock::time_point shared_until_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_GIVE_WAY_H_
