#include "ops/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include <cmath>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// Number of elements whose sum is formed at once; blocks are added in order.
constexpr int64_t kSumBlock = 4096;

template <typename T>
void AddRows(const ConstTensor& x, const Tensor& y) {
  const hn::ScalableTag<ComputeOf<T>> d;
  ParallelFor(x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = x.Row<T>(row);
      T* to = y.Row<T>(row);
      ForParts(d, x.columns, [&](int64_t i, size_t n) {
        StorePart(d, hn::Add(LoadPart(d, from + i, n), LoadPart(d, to + i, n)), to + i, n);
      });
    }
  });
}

template <typename T>
void SubtractRows(const ConstTensor& x, const Tensor& y) {
  const hn::ScalableTag<T> d;
  ParallelFor(x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = x.Row<T>(row);
      T* to = y.Row<T>(row);
      ForParts(d, x.columns, [&](int64_t i, size_t n) {
        StorePart(d, hn::Sub(LoadPart(d, from + i, n), LoadPart(d, to + i, n)), to + i, n);
      });
    }
  });
}

// Shares the elements of a [rows, columns] tensor out to threads, as parts of rows: visit(row, column, count).
template <typename Visit>
void ForRuns(int64_t rows, int64_t columns, const Visit& visit) {
  ParallelFor(rows * columns, 16384, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const int64_t row = begin / columns, column = begin % columns;
      const int64_t count = std::min(end - begin, columns - column);
      visit(row, column, count);
      begin += count;
    }
  });
}

template <typename T>
void CombineRows(const CombineArgs& args) {
  const hn::ScalableTag<T> d;
  const auto x_factor = hn::Set(d, static_cast<T>(args.x_factor)), y_factor = hn::Set(d, static_cast<T>(args.y_factor));
  const bool reads_y = static_cast<T>(args.y_factor) != 0;
  ForRuns(args.x.rows, args.x.columns, [&](int64_t row, int64_t column, int64_t count) {
    const T* x = args.x.Row<T>(row) + column;
    T* y = args.y.Row<T>(row) + column;
    ForParts(d, count, [&](int64_t i, size_t n) {
      auto sum = hn::Mul(x_factor, LoadPart(d, x + i, n));
      if (reads_y) sum = hn::MulAdd(y_factor, LoadPart(d, y + i, n), sum);
      StorePart(d, sum, y + i, n);
    });
  });
}

template <typename T>
void ScaleRows(const Tensor& x, double factor) {
  const hn::ScalableTag<ComputeOf<T>> d;
  const auto factors = hn::Set(d, static_cast<ComputeOf<T>>(factor));
  ForRuns(x.rows, x.columns, [&](int64_t row, int64_t column, int64_t count) {
    T* data = x.Row<T>(row) + column;
    ForParts(d, count, [&](int64_t i, size_t n) {
      StorePart(d, hn::Mul(factors, LoadPart(d, static_cast<const T*>(data) + i, n)), data + i, n);
    });
  });
}

template <typename From, typename To>
void CastRows(const ConstTensor& x, const Tensor& y) {
  ForRuns(x.rows, x.columns, [&](int64_t row, int64_t column, int64_t count) {
    const From* from = x.Row<From>(row) + column;
    To* to = y.Row<To>(row) + column;
    if constexpr (std::is_same_v<From, double> || std::is_same_v<To, double>) {
      for (int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<To, BFloat16>) {
          to[i] = BFloat16::FromDouble(static_cast<double>(from[i]));
        } else if constexpr (std::is_same_v<From, BFloat16>) {
          to[i] = static_cast<float>(from[i]);
        } else {
          to[i] = static_cast<To>(from[i]);
        }
      }
    } else {
      const hn::ScalableTag<float> d;
      ForParts(d, count, [&](int64_t i, size_t n) { StorePart(d, LoadPart(d, from + i, n), to + i, n); });
    }
  });
}

// Loads n elements as fp64. The lanes behind them are zero.
template <typename D, typename T>
hn::Vec<D> LoadWide(D d, const T* from, size_t n) {
  if constexpr (std::is_same_v<T, double>) {
    return LoadPart(d, from, n);
  } else {
    const hn::Rebind<float, D> df;
    HWY_ALIGN float part[HWY_MAX_BYTES / sizeof(double)] = {};
    for (size_t k = 0; k < n; ++k) part[k] = static_cast<float>(from[k]);
    return hn::PromoteTo(d, hn::Load(df, part));
  }
}

enum class Summand { kValue, kSquare, kProduct };

// Sums a block in fp64 lanes. Only kProduct reads y.
template <Summand kSummand, typename T>
double BlockSum(const T* x, const T* y, int64_t count) {
  const hn::ScalableTag<double> d;
  auto sum = hn::Zero(d);
  ForParts(d, count, [&](int64_t i, size_t n) {
    const auto value = LoadWide(d, x + i, n);
    if constexpr (kSummand == Summand::kValue) {
      sum = hn::Add(value, sum);
    } else {
      sum = hn::MulAdd(value, kSummand == Summand::kSquare ? value : LoadWide(d, y + i, n), sum);
    }
  });
  return SumLanes(d, sum);
}

template <Summand kSummand, typename T>
double SumBlocks(const ConstTensor& x, const ConstTensor& y) {
  double total = 0;
  for (int64_t row = 0; row < x.rows; ++row) {
    const T *data = x.Row<T>(row), *factors = y.Row<T>(row);
    // All threads sum blocks in waves of this many, so that the partial sums need no allocation.
    constexpr int64_t kWave = 256;
    double partial[kWave];
    for (int64_t begin = 0; begin < x.columns; begin += kWave * kSumBlock) {
      const int64_t count = std::min(x.columns - begin, kWave * kSumBlock);
      const int64_t blocks = (count + kSumBlock - 1) / kSumBlock;
      ParallelFor(blocks, 4, [&](int64_t from, int64_t to, int) {
        for (int64_t block = from; block < to; ++block) {
          const int64_t at = begin + block * kSumBlock;
          partial[block] = BlockSum<kSummand>(data + at, factors + at, std::min(kSumBlock, begin + count - at));
        }
      });
      for (int64_t block = 0; block < blocks; ++block) total += partial[block];
    }
  }
  return total;
}

void AddAny(const ConstTensor& x, const Tensor& y) {
  VisitFloating(x.dtype, [&](auto zero) { AddRows<decltype(zero)>(x, y); });
}
void SubtractAny(const ConstTensor& x, const Tensor& y) {
  x.dtype == DType::kFloat64 ? SubtractRows<double>(x, y) : SubtractRows<float>(x, y);
}
void CombineAny(const CombineArgs& args) {
  args.x.dtype == DType::kFloat64 ? CombineRows<double>(args) : CombineRows<float>(args);
}
void ScaleAny(const Tensor& x, double factor) {
  VisitFloating(x.dtype, [&](auto zero) { ScaleRows<decltype(zero)>(x, factor); });
}
void CastAny(const ConstTensor& x, const Tensor& y) {
  VisitFloating(x.dtype, [&](auto from) {
    VisitFloating(y.dtype, [&](auto to) { CastRows<decltype(from), decltype(to)>(x, y); });
  });
}
template <Summand kSummand>
double SumAny(const ConstTensor& x, const ConstTensor& y) {
  double sum = 0;
  VisitFloating(x.dtype, [&](auto zero) { sum = SumBlocks<kSummand, decltype(zero)>(x, y); });
  return sum;
}
double SumOf(const ConstTensor& x) { return SumAny<Summand::kValue>(x, x); }
double SumOfSquaresOf(const ConstTensor& x) { return SumAny<Summand::kSquare>(x, x); }
double DotOf(const ConstTensor& x, const ConstTensor& y) { return SumAny<Summand::kProduct>(x, y); }

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(AddAny);
HWY_EXPORT(SubtractAny);
HWY_EXPORT(CombineAny);
HWY_EXPORT(ScaleAny);
HWY_EXPORT(CastAny);
HWY_EXPORT(SumOf);
HWY_EXPORT(SumOfSquaresOf);
HWY_EXPORT(DotOf);

absl::Status Add(const AddArgs& args) {
  HWY_DYNAMIC_DISPATCH(AddAny)(args.x, args.y);
  return absl::OkStatus();
}

absl::Status SubtractFrom(const SubtractFromArgs& args) {
  HWY_DYNAMIC_DISPATCH(SubtractAny)(args.x, args.y);
  return absl::OkStatus();
}

absl::Status Combine(const CombineArgs& args) {
  HWY_DYNAMIC_DISPATCH(CombineAny)(args);
  return absl::OkStatus();
}

absl::Status Normalise(const NormaliseArgs& args) {
  const double norm = std::sqrt(HWY_DYNAMIC_DISPATCH(SumOfSquaresOf)(args.x));
  HWY_DYNAMIC_DISPATCH(CombineAny)
  ({.x = args.x, .y = args.x, .x_factor = 1 / (norm + args.epsilon), .y_factor = 0});
  return absl::OkStatus();
}

absl::Status ScaleToNorm(const ScaleToNormArgs& args) {
  const auto* squares = args.squares.As<const double>();
  if (squares[0] != 0) HWY_DYNAMIC_DISPATCH(ScaleAny)(args.x, std::sqrt(squares[1] / squares[0]));
  return absl::OkStatus();
}

absl::Status Cast(const CastArgs& args) {
  HWY_DYNAMIC_DISPATCH(CastAny)(args.x, args.y);
  return absl::OkStatus();
}

absl::Status SetZero(const SetZeroArgs& args) {
  const int64_t bytes = args.x.columns * SizeOf(args.x.dtype), stride = args.x.row_stride * SizeOf(args.x.dtype);
  constexpr int64_t kBlock = 1 << 20;
  for (int64_t row = 0; row < args.x.rows; ++row) {
    char* data = args.x.As<char>() + row * stride;
    ParallelFor(bytes, kBlock, [&](int64_t begin, int64_t end, int) {
      std::memset(data + begin, 0, static_cast<size_t>(end - begin));
    });
  }
  return absl::OkStatus();
}

absl::Status AddSum(const AddSumArgs& args) {
  *args.total.As<double>() += HWY_DYNAMIC_DISPATCH(SumOf)(args.x);
  return absl::OkStatus();
}

absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args) {
  *args.total.As<double>() += HWY_DYNAMIC_DISPATCH(SumOfSquaresOf)(args.x);
  return absl::OkStatus();
}

absl::Status AddDot(const AddDotArgs& args) {
  *args.total.As<double>() += HWY_DYNAMIC_DISPATCH(DotOf)(args.x, args.y);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
