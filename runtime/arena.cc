#include "runtime/arena.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/work_recorder.h"

namespace isthmus {

int64_t ArenaLayout::Add(std::string name, DType dtype, int64_t rows, int64_t columns) {
  const int64_t bytes = rows * columns * SizeOf(dtype);
  const int64_t offset = offset_;
  offset_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, offset_);
  entries_.push_back({std::move(name), offset, bytes});
  return offset;
}

void ArenaLayout::Share(int64_t count, const std::function<void(int64_t)>& add) {
  const int64_t begin = offset_;
  const auto first = static_cast<std::ptrdiff_t>(entries_.size());
  int64_t end = begin;
  std::vector<Entry> largest;
  for (int64_t i = 0; i < count; ++i) {
    offset_ = begin;
    add(i);
    if (offset_ > end) {
      end = offset_;
      largest.assign(entries_.begin() + first, entries_.end());
    }
    entries_.erase(entries_.begin() + first, entries_.end());
  }
  entries_.insert(entries_.end(), largest.begin(), largest.end());
  offset_ = end;
}

absl::StatusOr<Arena> Arena::Allocate(const std::string& name, int64_t bytes, Device device) {
  Arena arena;
  arena.device_ = device;
  arena.bytes_ = bytes;
  if (bytes == 0) return arena;
  ISTHMUS_ASSIGN_OR_RETURN(void* const memory, AllocateMemory(name, bytes, device));
  arena.data_ = static_cast<char*>(memory);
  return arena;
}

absl::StatusOr<Arena> Arena::Allocate(const std::string& name, int64_t bytes, const Stream& stream) {
  if (!stream.dry()) return Allocate(name, bytes, stream.device());
  Arena arena;
  arena.bytes_ = bytes;
  arena.dry_ = true;
  if (bytes > 0) arena.data_ = stream.recorder()->Addresses(bytes);
  return arena;
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  std::swap(dry_, other.dry_);
  return *this;
}

Arena::~Arena() {
  if (data_ != nullptr && !dry_) FreeMemory(data_, device_);
}

Tensor Arena::At(int64_t offset, DType dtype, int64_t rows, int64_t columns) const {
  return Tensor(data_ + offset, dtype, rows, columns);
}

}  // namespace isthmus
