// Memory that is sized before the first step and never grows.
#ifndef ISTHMUS_RUNTIME_ARENA_H_
#define ISTHMUS_RUNTIME_ARENA_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Plans an arena: hands out offsets, aligned to 128 bytes, before any memory exists. `plan` prints the same figures
// that the arena then uses.
class ArenaLayout {
 public:
  static constexpr int64_t kAlignment = 128;

  struct Entry {
    std::string name;
    int64_t offset;
    int64_t bytes;
  };

  // Reserves a [rows, columns] tensor; returns its offset in bytes.
  int64_t Add(std::string name, DType dtype, int64_t rows, int64_t columns);

  // Calls add(i) for each i < count. Tensors of different calls never live at the same time, and share bytes. The list
  // has the tensors of the call that takes most.
  void Share(int64_t count, const std::function<void(int64_t)>& add);

  int64_t bytes() const { return peak_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  int64_t offset_ = 0;
  int64_t peak_ = 0;
  std::vector<Entry> entries_;
};

// One allocation, zeroed, aligned to 128 bytes.
class Arena {
 public:
  // Errors: ResourceExhausted with the name and size when there is not enough memory.
  static absl::StatusOr<Arena> Allocate(const std::string& name, int64_t bytes, Device device = Device::kCpu);
  // Allocates on the stream's device. A dry stream's arena has addresses without memory.
  static absl::StatusOr<Arena> Allocate(const std::string& name, int64_t bytes, const Stream& stream);

  Arena() = default;
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  int64_t bytes() const { return bytes_; }
  // Returns the tensor at an offset that ArenaLayout::Add returned.
  Tensor At(int64_t offset, DType dtype, int64_t rows, int64_t columns) const;

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
  Device device_ = Device::kCpu;
  bool dry_ = false;
};

// Places tensors in an arena in the order of the calls. Without an arena it only plans: the tensors have no data, and
// layout().bytes() is the size to allocate. The same function run first without and then with the arena can't disagree.
class TensorPlacer {
 public:
  explicit TensorPlacer(const Arena* arena = nullptr) : arena_(arena) {}

  Tensor Place(std::string name, DType dtype, int64_t rows, int64_t columns) {
    const int64_t offset = layout_.Add(std::move(name), dtype, rows, columns);
    return arena_ != nullptr ? arena_->At(offset, dtype, rows, columns) : Tensor(nullptr, dtype, rows, columns);
  }
  // Does the same as ArenaLayout::Share.
  void Share(int64_t count, const std::function<void(int64_t)>& place) { layout_.Share(count, place); }
  const ArenaLayout& layout() const { return layout_; }

 private:
  const Arena* arena_;
  ArenaLayout layout_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_ARENA_H_
