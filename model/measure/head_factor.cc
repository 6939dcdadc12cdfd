#include "model/measure/head_factor.h"

#include <Eigen/SVD>
#include <algorithm>
#include <limits>

namespace isthmus {

HeadFactor FactorHead(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary) {
  const Eigen::MatrixXd product = down.size() > 0 ? Eigen::MatrixXd(r * down) : r;
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(product, Eigen::ComputeFullU);
  HeadFactor factor;
  factor.rotation = svd.matrixU();
  factor.transform = factor.rotation.transpose() * r;
  factor.singular_values = svd.singularValues();
  const double largest = factor.singular_values.size() > 0 ? factor.singular_values(0) : 0;
  const double threshold = largest * static_cast<double>(std::max<int64_t>(vocabulary, product.cols())) *
                           std::numeric_limits<double>::epsilon();
  factor.rank = (factor.singular_values.array() > threshold).count();
  return factor;
}

}  // namespace isthmus
