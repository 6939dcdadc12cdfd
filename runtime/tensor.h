// A view of numbers that somebody else owns (an arena, a file mapping, a test's vector).
#ifndef ISTHMUS_RUNTIME_TENSOR_H_
#define ISTHMUS_RUNTIME_TENSOR_H_

#include <cstdint>
#include <string>

#include "runtime/dtype.h"

namespace isthmus {

// A matrix view [rows, columns] in row-major order. Rows are `row_stride` elements apart (>= columns), the elements of
// a row are adjacent. A vector of n elements is [1, n]. Copying the view copies no data; constness of what it points at
// is the operator's contract, as its header states it.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;

  Tensor() = default;
  Tensor(void* data_, DType dtype_, int64_t rows_, int64_t columns_)
      : Tensor(data_, dtype_, rows_, columns_, columns_) {}
  Tensor(void* data_, DType dtype_, int64_t rows_, int64_t columns_, int64_t row_stride_)
      : data(data_), dtype(dtype_), rows(rows_), columns(columns_), row_stride(row_stride_) {}

  bool defined() const { return data != nullptr; }
  int64_t size() const { return rows * columns; }
  int64_t bytes() const { return size() * SizeOf(dtype); }
  bool contiguous() const { return row_stride == columns || rows <= 1; }

  // Typed pointer to element (row, 0). The caller has checked dtype.
  template <typename T>
  T* Row(int64_t row) const {
    return static_cast<T*>(data) + row * row_stride;
  }
  template <typename T>
  T* As() const {
    return static_cast<T*>(data);
  }

  // Rows [begin, begin + count).
  Tensor RowSlice(int64_t begin, int64_t count) const {
    return Tensor(static_cast<char*>(data) + begin * row_stride * SizeOf(dtype), dtype, count, columns, row_stride);
  }
  // Columns [begin, begin + count); keeps the row stride.
  Tensor ColumnSlice(int64_t begin, int64_t count) const {
    return Tensor(static_cast<char*>(data) + begin * SizeOf(dtype), dtype, rows, count, row_stride);
  }
  // The same elements as another shape. The view must be contiguous and the sizes equal.
  Tensor Reshape(int64_t new_rows, int64_t new_columns) const { return Tensor(data, dtype, new_rows, new_columns); }

  // For error messages: "fp32 [4, 256]".
  std::string Describe() const;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TENSOR_H_
