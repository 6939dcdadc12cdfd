// Matrices in fp64 on the host. Headers that other folders see don't include this one.
#ifndef ISTHMUS_MODEL_ALGEBRA_MATRIX_H_
#define ISTHMUS_MODEL_ALGEBRA_MATRIX_H_

#include <Eigen/Core>

#include "runtime/tensor.h"

namespace isthmus {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstMatrixView = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

// These return the same numbers as the other kind of view; fp64.
inline MatrixView ViewOf(const Tensor& tensor) {
  return {tensor.As<double>(), tensor.rows, tensor.columns, Eigen::OuterStride<>(tensor.row_stride)};
}
inline ConstMatrixView ConstViewOf(const ConstTensor& tensor) {
  return {tensor.As<double>(), tensor.rows, tensor.columns, Eigen::OuterStride<>(tensor.row_stride)};
}
inline Tensor TensorOf(Matrix& matrix) { return Tensor(matrix.data(), DType::kFloat64, matrix.rows(), matrix.cols()); }
inline ConstTensor TensorOf(const Matrix& matrix) {
  return ConstTensor(matrix.data(), DType::kFloat64, matrix.rows(), matrix.cols());
}
ConstTensor TensorOf(const Matrix&& matrix) = delete;  // a view of what is gone at once

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ALGEBRA_MATRIX_H_
