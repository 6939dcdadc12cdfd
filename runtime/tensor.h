// Views of numbers that somebody else owns (an arena, a file mapping, a test's vector).
#ifndef ISTHMUS_RUNTIME_TENSOR_H_
#define ISTHMUS_RUNTIME_TENSOR_H_

#include <cstdint>
#include <string>
#include <type_traits>

#include "runtime/dtype.h"

namespace isthmus {

// A matrix view [rows, columns] in row-major order. Rows are `row_stride` elements apart (>= columns), the elements of
// a row are adjacent. A vector of n elements is [1, n]. Copying the view copies no data.
//
// `Void` is `void` or `const void`. A Tensor can be written through, even if the view itself is const; a ConstTensor
// can only be read. A Tensor becomes a ConstTensor wherever one is needed, never the other way.
template <typename Void>
struct BasicTensor {
  static constexpr bool kReadOnly = std::is_const_v<Void>;
  // T, or const T if the view is read-only.
  template <typename T>
  using Element = std::conditional_t<kReadOnly, const T, T>;

  Void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;

  BasicTensor() = default;
  BasicTensor(Void* data_, DType dtype_, int64_t rows_, int64_t columns_)
      : BasicTensor(data_, dtype_, rows_, columns_, columns_) {}
  BasicTensor(Void* data_, DType dtype_, int64_t rows_, int64_t columns_, int64_t row_stride_)
      : data(data_), dtype(dtype_), rows(rows_), columns(columns_), row_stride(row_stride_) {}

  // Every Tensor can be read.
  template <typename Other, typename = std::enable_if_t<kReadOnly && std::is_same_v<Other, void>>>
  BasicTensor(const BasicTensor<Other>& tensor)  // NOLINT(google-explicit-constructor)
      : BasicTensor(tensor.data, tensor.dtype, tensor.rows, tensor.columns, tensor.row_stride) {}

  bool defined() const { return data != nullptr; }
  int64_t size() const { return rows * columns; }
  int64_t bytes() const { return size() * SizeOf(dtype); }
  bool contiguous() const { return row_stride == columns || rows <= 1; }

  // Returns a typed pointer to element (row, 0). The caller has checked the dtype.
  template <typename T>
  Element<T>* Row(int64_t row) const {
    return As<T>() + row * row_stride;
  }
  template <typename T>
  Element<T>* As() const {
    return static_cast<Element<T>*>(data);
  }

  // Returns rows [begin, begin + count).
  BasicTensor RowSlice(int64_t begin, int64_t count) const {
    return {As<char>() + begin * row_stride * SizeOf(dtype), dtype, count, columns, row_stride};
  }
  // Returns columns [begin, begin + count), with the same row stride.
  BasicTensor ColumnSlice(int64_t begin, int64_t count) const {
    return {As<char>() + begin * SizeOf(dtype), dtype, rows, count, row_stride};
  }
  // Returns the same elements as another shape. The view must be contiguous and the sizes equal.
  BasicTensor Reshape(int64_t new_rows, int64_t new_columns) const { return {data, dtype, new_rows, new_columns}; }

  // Returns text for error messages: "fp32 [4, 256]".
  std::string Describe() const;
};

// An argument that an operator writes, or reads and writes.
using Tensor = BasicTensor<void>;
// An argument that an operator only reads.
using ConstTensor = BasicTensor<const void>;

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TENSOR_H_
