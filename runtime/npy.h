// Arrays in NumPy's .npy format, versions 1.0 to 3.0 (numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#ifndef ISTHMUS_RUNTIME_NPY_H_
#define ISTHMUS_RUNTIME_NPY_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/durable_file.h"

namespace isthmus {

enum class NpyType : uint8_t { kFloat32, kFloat64, kInt32, kInt64 };

// A file that is read in pieces: float32, float64, int32 or int64 of little-endian byte order, in C or Fortran order.
// The file is never trusted: the header is checked against the file's size before memory is allocated.
class NpyArray {
 public:
  // Errors: by errno; InvalidArgument naming the path, what was found and what is accepted. It may be no .npy file. The
  // header may be truncated or state nonsense or another dtype. The file may have fewer or more bytes than the shape
  // needs.
  static absl::StatusOr<std::unique_ptr<const NpyArray>> Open(const std::string& path);
  ~NpyArray();
  NpyArray(const NpyArray&) = delete;
  NpyArray& operator=(const NpyArray&) = delete;

  const std::string& path() const { return path_; }
  NpyType type() const { return type_; }
  bool floating() const { return type_ == NpyType::kFloat32 || type_ == NpyType::kFloat64; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t size() const { return size_; }
  // Returns "float32 (10, 4)", as NumPy prints it.
  std::string Describe() const;

  // Errors of both functions: by errno; DataLoss if the file is shorter than when it was opened.
  // Reads rows [begin, begin + count) of a floating-point matrix, row by row.
  absl::Status ReadRows(int64_t begin, int64_t count, double* out) const;
  // Reads elements [begin, begin + count) of a vector of integers.
  absl::Status ReadIntegers(int64_t begin, int64_t count, int64_t* out) const;

 private:
  NpyArray(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  // Reads the header; afterwards `data_` is the place of the first element.
  absl::Status ParseHeader();
  absl::Status Fail(const std::string& what) const;
  absl::Status ReadBytes(int64_t offset, void* to, int64_t bytes) const;
  // Reads elements [first, first + count) in the order of the file, the i-th to out[i * stride].
  template <typename From, typename To>
  absl::Status ReadRun(int64_t first, int64_t count, To* out, int64_t stride) const;

  std::string path_;
  int descriptor_;
  NpyType type_ = NpyType::kFloat32;
  bool fortran_order_ = false;
  std::vector<int64_t> shape_;
  int64_t size_ = 0;
  int64_t bytes_ = 0;  // of the file
  int64_t data_ = 0;
};

// These return the bytes of a .npy file with a vector.
std::string NpyBytes(absl::Span<const int32_t> vector);
std::string NpyBytes(absl::Span<const int64_t> vector);

// A new .npy file (version 1.0, C order). It has its name once all `shape` elements were appended and Commit was
// called.
class NpyWriter {
 public:
  static absl::StatusOr<NpyWriter> Create(const std::string& path, NpyType type, const std::vector<int64_t>& shape,
                                          FileOwner owner = FileOwner::kProgram);
  // Appends the next elements, as they lie in memory.
  absl::Status Append(const void* elements, int64_t bytes) { return file_->Append(elements, bytes); }
  absl::Status Commit() { return file_->Commit(); }

 private:
  explicit NpyWriter(std::unique_ptr<DurableFile> file) : file_(std::move(file)) {}

  std::unique_ptr<DurableFile> file_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_NPY_H_
