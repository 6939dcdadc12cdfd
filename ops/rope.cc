#include "ops/rope.h"

#include <absl/strings/str_cat.h>

#include <cmath>
#include <vector>

#include "runtime/device.h"

namespace isthmus {

absl::Status FillRopeTable(double theta, int64_t head_dim, const Tensor& table, Stream& stream) {
  const bool floating = table.dtype == DType::kFloat32 || table.dtype == DType::kFloat64;
  if (head_dim < 2 || head_dim % 2 != 0 || table.columns != head_dim || !floating) {
    return absl::InvalidArgumentError(absl::StrCat("FillRopeTable: table is ", table.Describe(), " for head_dim ",
                                                   head_dim,
                                                   "; needs fp32 or fp64 [positions, head_dim], head_dim even"));
  }
  std::vector<char> values(static_cast<size_t>(table.bytes()));
  const Tensor host(values.data(), table.dtype, table.rows, table.columns);
  for (int64_t position = 0; position < table.rows; ++position) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double angle = static_cast<double>(position) / std::pow(theta, exponent);
      const double turn[2] = {std::cos(angle), std::sin(angle)};
      for (int part = 0; part < 2; ++part) {
        const int64_t column = i + part * head_dim / 2;
        if (table.dtype == DType::kFloat64) {
          host.Row<double>(position)[column] = turn[part];
        } else {
          host.Row<float>(position)[column] = static_cast<float>(turn[part]);
        }
      }
    }
  }
  return CopyFromHost(host, table, stream);
}

}  // namespace isthmus
