#include "runtime/arena.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace isthmus {

int64_t ArenaLayout::Add(std::string name, DType dtype, int64_t rows, int64_t columns) {
  const int64_t bytes = rows * columns * SizeOf(dtype);
  const int64_t offset = offset_;
  offset_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, offset_);
  entries_.push_back({std::move(name), offset, bytes});
  return offset;
}

absl::StatusOr<Arena> Arena::Allocate(const std::string& name, int64_t bytes, Device device) {
  if (device != Device::kCpu) return absl::UnimplementedError(absl::StrCat(name, ": no device memory in this build"));
  Arena arena;
  arena.device_ = device;
  arena.bytes_ = bytes;
  if (bytes == 0) return arena;
  const int64_t rounded = (bytes + ArenaLayout::kAlignment - 1) / ArenaLayout::kAlignment * ArenaLayout::kAlignment;
  arena.data_ = static_cast<char*>(std::aligned_alloc(ArenaLayout::kAlignment, static_cast<size_t>(rounded)));
  if (arena.data_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(name, ": can't allocate ", bytes,
                                                     " bytes of host memory; use a smaller model, micro-batch or "
                                                     "sequence length, or more ranks"));
  }
  std::memset(arena.data_, 0, static_cast<size_t>(rounded));
  return arena;
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  return *this;
}

Arena::~Arena() { std::free(data_); }

Tensor Arena::At(int64_t offset, DType dtype, int64_t rows, int64_t columns) const {
  return Tensor(data_ + offset, dtype, rows, columns);
}

}  // namespace isthmus
