#include "ops/check_arguments.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <string>

#include "runtime/status.h"

namespace isthmus {
namespace {

bool IsFloating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat64;
}

absl::Status CheckFloating(const char* op, const char* name, const Tensor& tensor) {
  const bool present = tensor.defined() || tensor.size() == 0;
  if (present && IsFloating(tensor.dtype) && tensor.row_stride >= tensor.columns) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs fp32, bf16 or fp64, rows that do not overlap"));
}

// `tensor` must be dtype [rows, columns].
absl::Status CheckTensor(const char* op, const char* name, const Tensor& tensor, DType dtype, int64_t rows,
                         int64_t columns) {
  const bool present = tensor.defined() || rows * columns == 0;
  if (present && tensor.dtype == dtype && tensor.rows == rows && tensor.columns == columns &&
      tensor.row_stride >= columns) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " is ", present ? tensor.Describe() : "not given",
                                                 "; needs ", std::string(Name(dtype)), " [", rows, ", ", columns, "]"));
}

// GPUs train in fp32 and bf16; fp64 is the CPU's, as an oracle. Products, which the head's algebra needs, are there in
// fp64 on both.
absl::Status CheckDevice(const char* op, const Tensor& tensor, Device device) {
  if (device == Device::kCpu || tensor.dtype != DType::kFloat64) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(op, ": ", tensor.Describe(), " on a GPU; fp64 runs on the CPU"));
}

absl::Status CheckLogits(const char* op, const Tensor& logits) {
  if (logits.dtype == DType::kFloat32 || logits.dtype == DType::kFloat64) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": logits are ", logits.Describe(), "; need fp32 or fp64"));
}

// What both passes take.
template <typename Args>
absl::Status CheckAttention(const char* op, const Args& args, Device device) {
  const AttentionShape& s = args.shape;
  if (s.sequences < 0 || s.sequence_length < 1 || s.head_dim < 1 || s.heads < 1 || s.kv_heads < 1 ||
      s.heads % s.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": heads ", s.heads, ", kv_heads ", s.kv_heads, ", head_dim ",
                                                   s.head_dim, ", sequence_length ", s.sequence_length,
                                                   "; all at least 1, heads a multiple of kv_heads"));
  }
  const DType type = args.q.dtype;
  const int64_t rows = s.sequences * s.sequence_length, query = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(op, "q", args.q));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "q", args.q, type, rows, query));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "k", args.k, type, rows, kv));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "v", args.v, type, rows, kv));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "out", args.out, type, rows, query));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "log_sum_exp", args.log_sum_exp, AccumulationType(type), s.sequences,
                                      s.heads * s.sequence_length));
  if (args.workspace.bytes() < LeastAttentionWorkspaceBytes(s, type, device)) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": workspace has ", args.workspace.bytes(), " bytes; needs ",
                                                   LeastAttentionWorkspaceBytes(s, type, device)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckArguments(const AdamWArgs& args, Device device) {
  constexpr char kOp[] = "AdamW";
  const DType type = args.weight.dtype;
  const int64_t count = args.weight.columns;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": weight is ", args.weight.Describe(), "; needs fp32 or fp64"));
  }
  if (args.step < 1) return absl::InvalidArgumentError(absl::StrCat(kOp, ": step ", args.step, "; counts from 1"));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad", args.grad, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "first_moment", args.first_moment, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "second_moment", args.second_moment, type, 1, count));
  if (args.compute_weight.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "compute_weight", args.compute_weight, DType::kBFloat16, 1, count));
  }
  return CheckDevice(kOp, args.weight, device);
}

absl::Status CheckArguments(const AttentionForwardArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckAttention("AttentionForward", args, device));
  return CheckDevice("AttentionForward", args.q, device);
}

absl::Status CheckArguments(const AttentionBackwardArgs& args, Device device) {
  constexpr char kOp[] = "AttentionBackward";
  ISTHMUS_RETURN_IF_ERROR(CheckAttention(kOp, args, device));
  const DType type = args.q.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_out", args.grad_out, type, args.q.rows, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_q", args.grad_q, type, args.q.rows, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_k", args.grad_k, type, args.k.rows, args.k.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_v", args.grad_v, type, args.v.rows, args.v.columns));
  return CheckDevice(kOp, args.q, device);
}

absl::Status CheckArguments(const CrossEntropyStatisticsArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyStatistics";
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1, args.logits.rows));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "statistics", args.statistics, args.logits.dtype, args.logits.rows, kCrossEntropyStatistics));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const CrossEntropyCombineArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyCombine";
  const int64_t tokens = args.loss.columns;
  const DType type = args.gathered.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.gathered));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "gathered", args.gathered, type, args.shards * tokens, kCrossEntropyStatistics));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "log_sum_exp", args.log_sum_exp, type, 1, tokens));
  if (args.energy.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "energy", args.energy, DType::kFloat64, args.shards, tokens));
  }
  return CheckDevice(kOp, args.gathered, device);
}

absl::Status CheckArguments(const CrossEntropyGradientArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyGradient";
  const int64_t tokens = args.logits.rows;
  const DType type = args.logits.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "log_sum_exp", args.log_sum_exp, type, 1, tokens));
  const bool rounded = type == DType::kFloat32 && args.grad_logits.dtype == DType::kBFloat16;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_logits", args.grad_logits, rounded ? DType::kBFloat16 : type, tokens,
                                      args.logits.columns));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const EmbeddingForwardArgs& args, Device device) {
  constexpr char kOp[] = "EmbeddingForward";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "y", args.y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "ids", args.ids, DType::kInt32, 1, args.y.rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "table", args.table, args.y.dtype, args.table.rows, args.y.columns));
  return CheckDevice(kOp, args.y, device);
}

absl::Status CheckArguments(const EmbeddingBackwardArgs& args, Device device) {
  constexpr char kOp[] = "EmbeddingBackward";
  const int64_t tokens = args.grad_y.rows;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "grad_y", args.grad_y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "ids", args.ids, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_table", args.grad_table, AccumulationType(args.grad_y.dtype),
                                      args.grad_table.rows, args.grad_y.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "workspace", args.workspace, DType::kInt32, 1, 2 * tokens));
  if (reinterpret_cast<uintptr_t>(args.workspace.data) % alignof(int64_t) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": workspace is not aligned to 8 bytes"));
  }
  return CheckDevice(kOp, args.grad_y, device);
}

absl::Status CheckArguments(const Fp8MatmulArgs& args, Device device) {
  constexpr char kOp[] = "Fp8Matmul";
  const int64_t m = args.a.rows, n = args.b.rows, k = args.a.columns;
  if (!IsFloat8(args.a.dtype) || !IsFloat8(args.b.dtype) ||
      (args.a.dtype == DType::kFloat8E5M2 && args.b.dtype == DType::kFloat8E5M2)) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": a is ", args.a.Describe(), ", b is ", args.b.Describe(),
                                                   "; need fp8_e4m3 or fp8_e5m2, one of them fp8_e4m3"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "a", args.a, args.a.dtype, m, k));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "b", args.b, args.b.dtype, n, k));
  const bool rounded = args.c.dtype == DType::kBFloat16 && !args.accumulate;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "c", args.c, rounded ? DType::kBFloat16 : DType::kFloat32, m, n));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "a_inverse", args.a_inverse, DType::kFloat32, 1, 1));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "b_inverse", args.b_inverse, DType::kFloat32, 1, 1));
  for (const Tensor& tensor : {args.a, args.b, args.c}) {
    const int64_t row_bytes = tensor.row_stride * SizeOf(tensor.dtype);
    if (tensor.rows % kFp8Multiple == 0 && tensor.columns % kFp8Multiple == 0 && row_bytes % 16 == 0 &&
        reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": ", tensor.Describe(), " with rows of ", row_bytes,
                                                   " bytes; needs multiples of 16 in both directions, rows that begin "
                                                   "at multiples of 16 bytes"));
  }
  if (args.workspace.bytes() < Fp8MatmulWorkspaceBytes(m, n, k, device)) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": workspace has ", args.workspace.bytes(), " bytes; needs ",
                                                   Fp8MatmulWorkspaceBytes(m, n, k, device)));
  }
  return absl::OkStatus();
}

absl::Status CheckArguments(const GramArgs& args, Device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Gram", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Gram", "y", args.y, args.x.dtype, args.x.rows, args.y.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Gram", "c", args.c, DType::kFloat64, args.x.columns, args.y.columns));
  if (args.x.dtype == DType::kFloat64) return absl::OkStatus();
  return CheckTensor("Gram", "workspace", args.workspace, DType::kFloat32, args.x.columns, args.y.columns);
}

absl::Status CheckArguments(const RowDotsArgs& args, Device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("RowDots", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("RowDots", "y", args.y, args.x.dtype, args.x.rows, args.x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("RowDots", "dots", args.dots, DType::kFloat64, 1, args.x.rows));
  return absl::OkStatus();
}

absl::Status CheckArguments(const AddColumnSquaresArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("AddColumnSquares", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("AddColumnSquares", "total", args.total, DType::kFloat64, 1, args.x.columns));
  return CheckDevice("AddColumnSquares", args.x, device);
}

absl::Status CheckArguments(const AddUnitRowsArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("AddUnitRows", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("AddUnitRows", "squares", args.squares, DType::kFloat64, 1, args.x.rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("AddUnitRows", "total", args.total, DType::kFloat64, 1, args.x.columns));
  return CheckDevice("AddUnitRows", args.x, device);
}

absl::Status CheckArguments(const QuantizeArgs& args, Device) {
  constexpr char kOp[] = "Quantize";
  const DType type = args.y.defined() ? args.y.dtype : args.transposed.dtype;
  const int64_t rows = args.x.rows, columns = args.x.columns;
  if (args.x.dtype != DType::kFloat32 && args.x.dtype != DType::kBFloat16) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": x is ", args.x.Describe(), "; needs fp32 or bf16"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  if (!IsFloat8(type) || (!args.y.defined() && !args.transposed.defined())) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": y is ", args.y.Describe(), ", transposed is ",
                                                   args.transposed.Describe(),
                                                   "; needs one of them or both, fp8_e4m3 or fp8_e5m2"));
  }
  if (args.y.defined()) ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, columns));
  if (args.transposed.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "transposed", args.transposed, type, columns, rows));
  }
  return CheckTensor(kOp, "inverse", args.inverse, DType::kFloat32, 1, 1);
}

absl::Status CheckArguments(const RmsNormForwardArgs& args, Device device) {
  constexpr char kOp[] = "RmsNormForward";
  const DType type = args.x.dtype;
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "inverse", args.inverse, AccumulationType(type), 1, rows));
  if (args.addend.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "addend", args.addend, type, rows, width));
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "sum", args.sum, type, rows, width));
  }
  return CheckDevice(kOp, args.x, device);
}

absl::Status CheckArguments(const RmsNormBackwardArgs& args, Device device) {
  constexpr char kOp[] = "RmsNormBackward";
  const DType type = args.x.dtype, sum_type = AccumulationType(type);
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_y", args.grad_y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "inverse", args.inverse, sum_type, 1, rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_x", args.grad_x, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_weight", args.grad_weight, sum_type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "workspace", args.workspace, sum_type, RmsNormWorkspaceRows(rows), width));
  return CheckDevice(kOp, args.x, device);
}

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

absl::Status CheckArguments(const SwigluForwardArgs& args, Device device) {
  constexpr char kOp[] = "SwigluForward";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "y", args.y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "gate_up", args.gate_up, args.y.dtype, args.y.rows, 2 * args.y.columns));
  return CheckDevice(kOp, args.y, device);
}

absl::Status CheckArguments(const SwigluBackwardArgs& args, Device device) {
  constexpr char kOp[] = "SwigluBackward";
  const DType type = args.grad_y.dtype;
  const int64_t rows = args.grad_y.rows, features = args.grad_y.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "grad_y", args.grad_y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "gate_up", args.gate_up, type, rows, 2 * features));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_gate_up", args.grad_gate_up, type, rows, 2 * features));
  if (args.y.defined()) ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, features));
  return CheckDevice(kOp, args.grad_y, device);
}

absl::Status CheckArguments(const SplitArgs& args, Device) {
  const Tensor& x = args.x;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "x", x, DType::kFloat32, x.rows, x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "high", args.high, DType::kBFloat16, x.rows, x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Split", "middle", args.middle, DType::kBFloat16, x.rows, x.columns));
  return CheckTensor("Split", "low", args.low, DType::kBFloat16, x.rows, x.columns);
}

absl::Status CheckArguments(const MatmulArgs& args, Device) {
  const MatmulSizes sizes = SizesOf(args);
  const DType type = args.a.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Matmul", "a", args.a));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Matmul", "b", args.b, type, args.transpose_b ? sizes.n : sizes.k,
                                      args.transpose_b ? sizes.k : sizes.n));
  const bool widened = type == DType::kBFloat16 && (args.c.dtype == DType::kFloat32 || args.accumulate);
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Matmul", "c", args.c, widened ? DType::kFloat32 : type, sizes.m, sizes.n));
  return absl::OkStatus();
}

absl::Status CheckAdd(const Tensor& x, const Tensor& y, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Add", "x", x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Add", "y", y, x.dtype, x.rows, x.columns));
  return CheckDevice("Add", x, device);
}

absl::Status CheckSubtractFrom(const Tensor& x, const Tensor& y, Device device) {
  if (x.dtype != DType::kFloat32 && x.dtype != DType::kFloat64) {
    return absl::InvalidArgumentError(absl::StrCat("SubtractFrom: x is ", x.Describe(), "; needs fp32 or fp64"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("SubtractFrom", "x", x, x.dtype, x.rows, x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("SubtractFrom", "y", y, x.dtype, x.rows, x.columns));
  return CheckDevice("SubtractFrom", x, device);
}

absl::Status CheckCast(const Tensor& x, const Tensor& y) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Cast", "x", x));
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Cast", "y", y));
  return CheckTensor("Cast", "y", y, y.dtype, x.rows, x.columns);
}

absl::Status CheckSetZero(const Tensor& x) { return CheckTensor("SetZero", "x", x, x.dtype, x.rows, x.columns); }

absl::Status CheckSum(const char* op, const Tensor& x, const Tensor& total) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(op, "x", x));
  return CheckTensor(op, "total", total, DType::kFloat64, 1, 1);
}

}  // namespace isthmus
