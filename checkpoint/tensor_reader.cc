#include "checkpoint/tensor_reader.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "checkpoint/model_tensors.h"
#include "ops/elementwise.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

constexpr int64_t kAhead = 2;  // chunks

constexpr char kDamaged[] = "the checksum is wrong: the file is damaged; use another checkpoint";

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
  close(oldest->second.descriptor);
  open_.erase(oldest);
}

absl::StatusOr<int> TensorReader::Open(const std::string& file) {
  if (const auto found = open_.find(file); found != open_.end()) {
    found->second.used = ++uses_;
    return found->second.descriptor;
  }
  const std::string path = folder_ + "/" + file;
  if (open_.size() == kMostOpen) CloseOne();
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  // What else the process has open leaves less.
  while (descriptor < 0 && (errno == EMFILE || errno == ENFILE) && !open_.empty()) {
    CloseOne();
    descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (descriptor < 0) return FileError(path, "can't open the checkpoint's data", errno);
  open_[file] = {.descriptor = descriptor, .used = ++uses_};
  struct stat state {};
  if (fstat(descriptor, &state) != 0) return FileError(path, "can't read", errno);
  // Version 1 does not state sizes.
  const auto size = sizes_.find(file);
  if (size != sizes_.end() && size->second != state.st_size) {
    close(descriptor);
    open_.erase(file);
    return absl::DataLossError(absl::StrCat(path, ": ", state.st_size < size->second ? "truncated: " : "too long: ",
                                            state.st_size, " bytes, the manifest says ", size->second));
  }
  return descriptor;
}

absl::StatusOr<Tensor> TensorReader::ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice,
                                               int index) {
  return ReadChunk(tensor, slice, index, nullptr);
}

absl::StatusOr<Tensor> TensorReader::ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice,
                                               int index, char* to) {
  ISTHMUS_ASSIGN_OR_RETURN(const DType dtype, StoredDType(tensor.dtype()));
  ISTHMUS_ASSIGN_OR_RETURN(const int descriptor, Open(slice.file()));
  const std::string path = folder_ + "/" + slice.file();
  const int64_t columns = slice.column_end() - slice.column_begin(), first = index * slice.chunk_rows();
  const int64_t rows = std::min(slice.chunk_rows(), slice.row_end() - slice.row_begin() - first);
  const int64_t offset = slice.offset() + first * columns * SizeOf(dtype);
  const int64_t size = rows * columns * SizeOf(dtype);
  const auto fail = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat(path, ": tensor ", TensorTitle(tensor.name(), tensor.role()), " at byte ", offset, ": ", what));
  };
  if (to == nullptr) {
    bytes_.resize(static_cast<size_t>(size));
    to = bytes_.data();
  }
  // The disk goes on while this chunk is checked.
  posix_fadvise(descriptor, offset + size, kAhead * size, POSIX_FADV_WILLNEED);
  for (int64_t done = 0; done < size;) {
    const ssize_t got = pread(descriptor, to + done, static_cast<size_t>(size - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path, "can't read", errno);
    if (got == 0) return fail(absl::StrCat("truncated: needs ", size, " bytes, ", done, " are there"));
    done += got;
  }
  if (XXH3_64bits(to, static_cast<size_t>(size)) != slice.chunk_checksums(index)) return fail(kDamaged);
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
      if (!as_stored) ISTHMUS_RETURN_IF_ERROR(Cast(part(chunk, chunk_begin, slice.column_begin()), place, host));
    }
  }
  return absl::OkStatus();
}

absl::Status TensorReader::CheckWholeFile(const proto::FileEntry& file) {
  if (file.name().find('/') != std::string::npos) {
    return absl::DataLossError(absl::StrCat(folder_, ": the manifest names a file outside: ", file.name()));
  }
  ISTHMUS_RETURN_IF_ERROR(Open(file.name()).status());
  const std::string path = folder_ + "/" + file.name();
  while (!open_.empty()) CloseOne();  // it is opened anew
  ISTHMUS_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path));
  if (file.has_checksum() && XXH3_64bits(contents.data(), contents.size()) != file.checksum()) {
    return absl::DataLossError(absl::StrCat(path, ": ", kDamaged));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
