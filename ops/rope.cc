#include "ops/rope.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const RopeArgs& args, Device device) {
  constexpr char kOp[] = "Rope";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  if (args.head_dim < 2 || args.head_dim % 2 != 0 || args.x.columns % args.head_dim != 0 || args.sequence_length < 1) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": head_dim ", args.head_dim, " and sequence_length ",
                                                   args.sequence_length, " don't fit x ", args.x.Describe(),
                                                   "; head_dim must be even and divide the columns"));
  }
  const int64_t positions = args.first_position + std::min(args.sequence_length, args.x.rows);
  if (args.first_position < 0 || positions > args.table.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": positions up to ", positions, " but the table has ", args.table.rows, " rows"));
  }
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "table", args.table, AccumulationType(args.x.dtype), args.table.rows, args.head_dim));
  return CheckDevice(kOp, args.x, device);
}

}  // namespace

OperatorCost RopeArgs::Cost() const { return MemoryPass("rotary positions", {x, x}); }

absl::Status Rope(const RopeArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::Rope, cuda::Rope>(args, stream);
}

absl::Status FillRopeTable(const FillRopeTableArgs& args, Stream& stream) {
  const Tensor& table = args.table;
  const int64_t head_dim = args.head_dim;
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
      const double angle = static_cast<double>(position) / std::pow(args.theta, exponent);
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
