#include "checkpoint/tensor_reader.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "checkpoint/model_tensors.h"
#include "ops/elementwise.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

constexpr int64_t kAhead = 2;  // chunks

}  // namespace

absl::StatusOr<DType> StoredDType(const std::string& name) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    if (name == Name(dtype)) return dtype;
  }
  return absl::DataLossError(absl::StrCat("dtype \"", name, "\"; accepted: fp32, fp64, bf16"));
}

TensorReader::TensorReader(std::string folder, const proto::CheckpointManifest& manifest) : folder_(std::move(folder)) {
  for (const auto& file : manifest.files()) sizes_[file.name()] = file.bytes();
}

TensorReader::~TensorReader() {
  while (!open_.empty()) CloseOne();
}

void TensorReader::CloseOne() {
  const auto oldest = std::min_element(open_.begin(), open_.end(),
                                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
  close(oldest->second.file.descriptor);
  open_.erase(oldest);
}

absl::StatusOr<StoredFile> TensorReader::Open(const std::string& file) {
  if (const auto found = open_.find(file); found != open_.end()) {
    found->second.used = ++uses_;
    return found->second.file;
  }
  const std::string path = folder_ + "/" + file;
  if (const absl::Status name = CheckFileName(file); !name.ok()) {
    return absl::DataLossError(absl::StrCat(folder_, ": ", name.message()));
  }
  if (open_.size() == kMostOpen) CloseOne();
  auto opened = OpenStoredFile(path);
  // Other open files of the process lower the number that can be opened here. They stay open, so that is no error yet.
  while (absl::IsFailedPrecondition(opened.status()) && !open_.empty()) {
    CloseOne();
    opened = OpenStoredFile(path);
  }
  ISTHMUS_RETURN_IF_ERROR(opened.status());
  // Version 1 does not state sizes.
  if (const auto size = sizes_.find(file); size != sizes_.end()) {
    if (const absl::Status same = CheckFileSize(path, opened->size, size->second); !same.ok()) {
      close(opened->descriptor);
      return same;
    }
  }
  open_[file] = {.file = *opened, .used = ++uses_};
  return *opened;
}

StoredBytes TensorReader::PlaceOfFile(const std::string& file) const {
  StoredBytes place{.file = file};
  if (const auto size = sizes_.find(file); size != sizes_.end()) place.file_size = size->second;
  return place;
}

absl::StatusOr<Tensor> TensorReader::ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice,
                                               int index) {
  return ReadChunk(tensor, slice, index, nullptr);
}

absl::StatusOr<Tensor> TensorReader::ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice,
                                               int index, char* to) {
  ISTHMUS_ASSIGN_OR_RETURN(const DType dtype, StoredDType(tensor.dtype()));
  const int64_t columns = slice.column_end() - slice.column_begin(), first = index * slice.chunk_rows();
  const int64_t rows = std::min(slice.chunk_rows(), slice.row_end() - slice.row_begin() - first);
  StoredBytes place = PlaceOfFile(slice.file());
  place.offset = slice.offset() + first * columns * SizeOf(dtype);
  place.size = rows * columns * SizeOf(dtype);
  place.checksum = slice.chunk_checksums(index);
  const int64_t offset = place.offset, size = place.size;
  const std::string path = folder_ + "/" + slice.file();
  const auto fail = [&](absl::string_view what) {
    const std::string title = TensorTitle(tensor.name(), tensor.role());
    return WithPlace(absl::DataLossError(absl::StrCat(path, ": tensor ", title, " at byte ", offset, ": ", what)),
                     place);
  };
  const auto opened = Open(slice.file());
  if (!opened.ok()) return WithPlace(opened.status(), place);
  const int descriptor = opened->descriptor;
  const auto truncated = [&](int64_t there) {
    return fail(absl::StrCat("truncated: needs ", size, " bytes, ", there, " are there"));
  };
  // This is checked before memory is allocated.
  if (const int64_t there = std::max<int64_t>(opened->size - offset, 0); there < size) return truncated(there);
  if (to == nullptr) {
    try {
      bytes_.resize(static_cast<size_t>(size));
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(absl::StrCat(path, ": no memory for a chunk of ", size, " bytes"));
    }
    to = bytes_.data();
  }
  // The disk goes on while this chunk is checked.
  posix_fadvise(descriptor, offset + size, kAhead * size, POSIX_FADV_WILLNEED);
  for (int64_t done = 0; done < size;) {
    const ssize_t got = pread(descriptor, to + done, static_cast<size_t>(size - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path, "can't read", errno);
    if (got == 0) return truncated(done);
    done += got;
  }
  if (XXH3_64bits(to, static_cast<size_t>(size)) != slice.chunk_checksums(index)) return fail(kDamagedBytes);
  return Tensor(to, dtype, rows, columns);
}

absl::Status TensorReader::Read(const proto::TensorEntry& tensor, Range rows, Range columns, const Tensor& out) {
  Stream host;
  ISTHMUS_ASSIGN_OR_RETURN(const DType stored, StoredDType(tensor.dtype()));
  for (const auto& slice : tensor.slices()) {
    const Range common_columns = {std::max(columns.begin, slice.column_begin()),
                                  std::min(columns.end, slice.column_end())};
    const Range common_rows = {std::max(rows.begin, slice.row_begin()), std::min(rows.end, slice.row_end())};
    if (common_rows.size() <= 0 || common_columns.size() <= 0) continue;
    const auto first = static_cast<int>((common_rows.begin - slice.row_begin()) / slice.chunk_rows());
    const auto last = static_cast<int>((common_rows.end - 1 - slice.row_begin()) / slice.chunk_rows());
    for (int index = first; index <= last; ++index) {
      const int64_t chunk_begin = slice.row_begin() + index * slice.chunk_rows();
      const Range chunk_rows = {chunk_begin, std::min(chunk_begin + slice.chunk_rows(), slice.row_end())};
      const Range taken = {std::max(common_rows.begin, chunk_rows.begin), std::min(common_rows.end, chunk_rows.end)};
      const auto part = [&](const Tensor& from, int64_t first_row, int64_t first_column) {
        return from.RowSlice(taken.begin - first_row, taken.size())
            .ColumnSlice(common_columns.begin - first_column, common_columns.size());
      };
      const Tensor place = part(out, rows.begin, columns.begin);
      // A chunk that is wanted as it is needs no copy.
      const bool as_stored = stored == out.dtype && taken == chunk_rows && place.contiguous() &&
                             common_columns.size() == slice.column_end() - slice.column_begin();
      char* const to = as_stored ? place.As<char>() : nullptr;
      ISTHMUS_ASSIGN_OR_RETURN(const Tensor chunk, ReadChunk(tensor, slice, index, to));
      if (!as_stored)
        ISTHMUS_RETURN_IF_ERROR(Cast({.x = part(chunk, chunk_begin, slice.column_begin()), .y = place}, host));
    }
  }
  return absl::OkStatus();
}

absl::Status TensorReader::CheckWholeFile(const proto::FileEntry& file) const {
  StoredBytes whole{.file = file.name(), .file_size = file.bytes(), .size = file.bytes()};
  if (file.has_checksum()) whole.checksum = file.checksum();
  const absl::Status status = CheckStoredBytes(folder_, whole);
  return status.ok() ? status : WithPlace(status, whole);
}

}  // namespace isthmus
