// Writes text to readers that may not take it: a pipe that nobody reads, a stopped terminal, a disk that stands still.
#ifndef ISTHMUS_RUNTIME_ASYNC_WRITER_H_
#define ISTHMUS_RUNTIME_ASYNC_WRITER_H_

#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>

namespace isthmus {

// Writes pieces to a file descriptor, in order, by a thread of its own, so that Write never waits. A piece that can't
// be written is lost and counted. If too many wait, the oldest are lost. The next text begins with a message that says
// so. The thread starts with the first piece, and is left behind if it can't end. Thread-safe.
class AsyncWriter {
 public:
  static constexpr size_t kQueueBytes = size_t{256} * 1024;
  static constexpr absl::Duration kFlushDeadline = absl::Seconds(5);

  enum class Descriptor { kBorrowed, kOwned };  // kOwned: closed at the end
  // Returns the text that stands in place of so many lost pieces. The thread calls it.
  using LostText = std::function<std::string(int64_t pieces)>;
  AsyncWriter(int descriptor, Descriptor ownership, LostText lost_text, size_t queue_bytes = kQueueBytes);
  // Flushes with kFlushDeadline.
  ~AsyncWriter();
  AsyncWriter(const AsyncWriter&) = delete;
  AsyncWriter& operator=(const AsyncWriter&) = delete;

  void Write(std::string piece);
  // Waits until all pieces are written or lost, at most as long as `deadline`. It does not wait again if nothing has
  // moved since the last wait was in vain. Returns false if pieces are left, which may still be written.
  bool Flush(absl::Duration deadline);
  // Number of lost pieces.
  int64_t lost() const;

 private:
  struct State;  // shared with the thread, which may outlive this object
  std::shared_ptr<State> state_;
};

// A stream whose every flush is a piece. A command that prints with it waits for nobody.
class AsyncStream : public std::ostream {
 public:
  explicit AsyncStream(int descriptor);

 private:
  friend void Settle(std::ostream& stream);

  class Buffer : public std::stringbuf {
   public:
    explicit Buffer(int descriptor);
    AsyncWriter& writer() { return writer_; }

   protected:
    int sync() override;

   private:
    AsyncWriter writer_;
  };
  Buffer buffer_;
};

// Flushes a stream at a command's end. For an AsyncStream this takes no longer than AsyncWriter::kFlushDeadline;
// afterwards the stream is bad if anything was lost, or is left.
void Settle(std::ostream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_ASYNC_WRITER_H_
