#include "checkpoint/statistics.h"

#include <absl/functional/function_ref.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/status.h"

namespace isthmus {
namespace {

// This is a multiple of the chunks that are written, so that nothing is read often.
constexpr int64_t kBlockElements = int64_t{1} << 22;

// Calls visit(rows) for blocks of whole rows that make up the tensor.
absl::Status ForBlocks(const proto::TensorEntry& tensor, absl::FunctionRef<absl::Status(Range)> visit) {
  const int64_t step = std::max<int64_t>(kBlockElements / std::max<int64_t>(tensor.columns(), 1), 1);
  for (int64_t row = 0; row < tensor.rows(); row += step) {
    ISTHMUS_RETURN_IF_ERROR(visit({row, std::min(row + step, tensor.rows())}));
  }
  return absl::OkStatus();
}

absl::Status ReadBlock(const proto::TensorEntry& tensor, TensorReader& reader, Range rows,
                       std::vector<double>& values) {
  values.resize(static_cast<size_t>(rows.size() * tensor.columns()));
  return reader.Read(tensor, rows, {0, tensor.columns()},
                     Tensor(values.data(), DType::kFloat64, rows.size(), tensor.columns()));
}

}  // namespace

absl::StatusOr<TensorStatistics> StatisticsOf(const proto::TensorEntry& tensor, TensorReader& reader) {
  TensorStatistics result;
  std::vector<double> values;
  double sum = 0, squares = 0;
  int64_t finite = 0;
  const auto visit = [&](Range rows) -> absl::Status {
    ISTHMUS_RETURN_IF_ERROR(ReadBlock(tensor, reader, rows, values));
    for (const double value : values) {
      if (!std::isfinite(value)) {
        ++result.not_finite;
        continue;
      }
      result.minimum = finite == 0 ? value : std::min(result.minimum, value);
      result.maximum = finite == 0 ? value : std::max(result.maximum, value);
      ++finite;
      sum += value;
      squares += value * value;
    }
    return absl::OkStatus();
  };
  ISTHMUS_RETURN_IF_ERROR(ForBlocks(tensor, visit));
  if (finite > 0) {
    result.mean = sum / static_cast<double>(finite);
    result.root_mean_square = std::sqrt(squares / static_cast<double>(finite));
  }
  return result;
}

absl::StatusOr<TensorDifference> DifferenceOf(const proto::TensorEntry& first, TensorReader& first_reader,
                                              const proto::TensorEntry& second, TensorReader& second_reader) {
  TensorDifference result;
  std::vector<double> a, b;
  double squares = 0, difference_squares = 0;
  const auto visit = [&](Range rows) -> absl::Status {
    ISTHMUS_RETURN_IF_ERROR(ReadBlock(first, first_reader, rows, a));
    ISTHMUS_RETURN_IF_ERROR(ReadBlock(second, second_reader, rows, b));
    for (size_t i = 0; i < a.size(); ++i) {
      squares += a[i] * a[i];
      if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
      ++result.different;
      result.largest = std::max(result.largest, std::abs(a[i] - b[i]));
      difference_squares += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return absl::OkStatus();
  };
  ISTHMUS_RETURN_IF_ERROR(ForBlocks(first, visit));
  if (difference_squares > 0) result.relative = std::sqrt(difference_squares / squares);
  return result;
}

}  // namespace isthmus
