#include "ops/cpu/fp64_product.h"

#include <Eigen/Core>

namespace isthmus::cpu {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstView = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

template <typename Result, typename From>
Result ViewOf(const From& tensor) {
  return {tensor.template As<double>(), tensor.rows, tensor.columns, Eigen::OuterStride<>(tensor.row_stride)};
}

template <typename A, typename B>
void Product(const A& a, const B& b, View c, bool accumulate) {
  if (accumulate) {
    c.noalias() += a * b;
  } else {
    c.noalias() = a * b;
  }
}

}  // namespace

void Fp64Product(const MatmulArgs& args) {
  const auto a = ViewOf<ConstView>(args.a), b = ViewOf<ConstView>(args.b);
  const auto c = ViewOf<View>(args.c);
  if (args.transpose_a && args.transpose_b) {
    Product(a.transpose(), b.transpose(), c, args.accumulate);
  } else if (args.transpose_a) {
    Product(a.transpose(), b, c, args.accumulate);
  } else if (args.transpose_b) {
    Product(a, b.transpose(), c, args.accumulate);
  } else {
    Product(a, b, c, args.accumulate);
  }
}

}  // namespace isthmus::cpu
