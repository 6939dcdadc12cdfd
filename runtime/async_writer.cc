#include "runtime/async_writer.h"

#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/caught.h"
#include "runtime/write_all.h"

namespace isthmus {

struct AsyncWriter::State {
  int descriptor;
  Descriptor ownership;
  LostText lost_text;
  size_t queue_bytes;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> queue;
  size_t bytes = 0;      // in the queue
  int64_t passed = 0;    // pieces that the thread has finished
  int64_t lost = 0;      // pieces
  int64_t untold = 0;    // lost pieces that no text has reported yet
  int64_t in_vain = -1;  // `passed` when a flush was given up
  bool busy = false;     // the thread is writing a piece
  bool started = false, closing = false;

  ~State() {
    if (ownership == Descriptor::kOwned) close(descriptor);
  }

  void DropOldest() {
    bytes -= queue.front().size();
    queue.pop_front();
    ++lost;
    ++untold;
  }

  void Run() {
    bool torn = false;  // the last piece was cut in its middle
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return closing || !queue.empty(); });
      if (queue.empty()) return;
      busy = true;
      std::string piece = std::move(queue.front());
      bytes -= piece.size();
      queue.pop_front();
      const int64_t told = std::exchange(untold, 0);
      lock.unlock();
      size_t head = 0, all = piece.size(), written = 0;
      // Without memory for the text the piece is lost like others.
      Caught([&] {
        std::string text = torn ? "\n" : "";
        if (told > 0) absl::StrAppend(&text, lost_text(told));
        head = text.size();
        text += piece;
        all = text.size();
        written = static_cast<size_t>(WriteAll(descriptor, text).bytes);
        return absl::OkStatus();
      }).IgnoreError();
      lock.lock();
      if (written < all) {
        ++lost;
        untold += written < std::max<size_t>(head, 1) ? told + 1 : 1;
      }
      if (written > 0) torn = written < all;
      ++passed;
      busy = false;
      changed.notify_all();
    }
  }
};

AsyncWriter::AsyncWriter(int descriptor, Descriptor ownership, LostText lost_text, size_t queue_bytes)
    : state_(std::make_shared<State>()) {
  state_->descriptor = descriptor;
  state_->ownership = ownership;
  state_->lost_text = std::move(lost_text);
  state_->queue_bytes = queue_bytes;
}

AsyncWriter::~AsyncWriter() {
  Flush(kFlushDeadline);
  const std::lock_guard lock(state_->mutex);
  // The remaining pieces are given up. A thread that comes free then ends.
  while (!state_->queue.empty()) state_->DropOldest();
  state_->closing = true;
  state_->changed.notify_all();
}

void AsyncWriter::Write(std::string piece) {
  const std::lock_guard lock(state_->mutex);
  state_->bytes += piece.size();
  state_->queue.push_back(std::move(piece));
  while (state_->bytes > state_->queue_bytes && state_->queue.size() > 1) state_->DropOldest();
  state_->changed.notify_all();
  if (state_->started) return;
  try {
    std::thread([state = state_] { state->Run(); }).detach();
    state_->started = true;
  } catch (const std::system_error&) {
    // The system has no thread left. The next piece tries again.
  }
}

bool AsyncWriter::Flush(absl::Duration deadline) {
  std::unique_lock lock(state_->mutex);
  const auto done = [&] { return state_->queue.empty() && !state_->busy; };
  if (done()) return true;
  if (!state_->started || state_->in_vain == state_->passed) return false;
  if (state_->changed.wait_for(lock, absl::ToChronoNanoseconds(deadline), done)) return true;
  state_->in_vain = state_->passed;
  return false;
}

int64_t AsyncWriter::lost() const {
  const std::lock_guard lock(state_->mutex);
  return state_->lost;
}

AsyncStream::Buffer::Buffer(int descriptor)
    : std::stringbuf(std::ios::out), writer_(descriptor, AsyncWriter::Descriptor::kBorrowed, [](int64_t pieces) {
        return absl::StrCat("(", pieces, pieces == 1 ? " message is" : " messages are",
                            " lost here: the output was not taken in time)\n");
      }) {}

int AsyncStream::Buffer::sync() {
  std::string text = str();
  if (text.empty()) return 0;
  str("");
  writer_.Write(std::move(text));
  return 0;
}

AsyncStream::AsyncStream(int descriptor) : std::ostream(nullptr), buffer_(descriptor) { rdbuf(&buffer_); }

void Settle(std::ostream& stream) {
  stream.flush();
  auto* async = dynamic_cast<AsyncStream*>(&stream);
  if (async == nullptr) return;
  AsyncWriter& writer = async->buffer_.writer();
  if (!writer.Flush(AsyncWriter::kFlushDeadline) || writer.lost() > 0) stream.setstate(std::ios::badbit);
}

}  // namespace isthmus
