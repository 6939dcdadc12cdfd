#include "ops/reductions.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/reductions.cc"
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

// Number of columns that one thread sums at once. Their sums stay in the first-level cache, and a row's part of them is
// long enough for read-ahead.
constexpr int64_t kColumnTile = 2048;

// Elements [p, p + n) in fp64, n <= Lanes(d); the other lanes are zero.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const T* p, size_t n) {
  if constexpr (std::is_same_v<T, double>) {
    return LoadPart(d, p, n);
  } else {
    const hn::Rebind<float, D> narrow;
    return hn::PromoteTo(d, LoadPart(narrow, p, n));
  }
}

template <typename T>
void Dots(const RowDotsArgs& args) {
  const hn::ScalableTag<double> d;
  double* dots = args.dots.As<double>();
  ParallelFor(args.x.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = args.x.Row<T>(row);
      const T* y = args.y.Row<T>(row);
      auto sum = hn::Zero(d);
      ForParts(d, args.x.columns,
               [&](int64_t i, size_t n) { sum = hn::MulAdd(LoadWidened(d, x + i, n), LoadWidened(d, y + i, n), sum); });
      dots[row] = SumLanes(d, sum);
    }
  });
}

// Computes total[c] += Σ_n term(element, n), with the rows in order.
template <typename T, typename Term>
void AddColumns(const ConstTensor& x, const Tensor& total, const Term& term) {
  const hn::ScalableTag<double> d;
  ParallelFor(x.columns, 64, [&](int64_t from, int64_t to, int) {
    for (int64_t begin = from; begin < to; begin += kColumnTile) {
      const int64_t columns = std::min(kColumnTile, to - begin);
      double* sums = total.As<double>() + begin;
      for (int64_t row = 0; row < x.rows; ++row) {
        const T* values = x.Row<T>(row) + begin;
        ForParts(d, columns, [&](int64_t i, size_t n) {
          StorePart(d, term(LoadWidened(d, values + i, n), row, LoadPart(d, sums + i, n)), sums + i, n);
        });
      }
    }
  });
}

template <typename T>
void Sums(const AddColumnSumsArgs& args) {
  AddColumns<T>(args.x, args.total, [](auto value, int64_t, auto sum) { return hn::Add(value, sum); });
}

template <typename T>
void Squares(const AddColumnSquaresArgs& args) {
  AddColumns<T>(args.x, args.total, [](auto value, int64_t, auto sum) { return hn::MulAdd(value, value, sum); });
}

template <typename T>
void UnitRows(const AddUnitRowsArgs& args) {
  const hn::ScalableTag<double> d;
  const double* squares = args.squares.As<double>();
  AddColumns<T>(args.x, args.total, [&](auto value, int64_t row, auto sum) {
    const double factor = squares[row] == 0 ? 0 : 1 / std::sqrt(squares[row]);
    return hn::MulAdd(value, hn::Set(d, factor), sum);
  });
}

void DotsAny(const RowDotsArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Dots<decltype(zero)>(args); });
}
void SumsAny(const AddColumnSumsArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Sums<decltype(zero)>(args); });
}
void SquaresAny(const AddColumnSquaresArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Squares<decltype(zero)>(args); });
}
void UnitRowsAny(const AddUnitRowsArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { UnitRows<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace isthmus::cpu {

HWY_EXPORT(DotsAny);
HWY_EXPORT(SumsAny);
HWY_EXPORT(SquaresAny);
HWY_EXPORT(UnitRowsAny);

absl::Status RowDots(const RowDotsArgs& args) {
  HWY_DYNAMIC_DISPATCH(DotsAny)(args);
  return absl::OkStatus();
}

absl::Status AddColumnSums(const AddColumnSumsArgs& args) {
  HWY_DYNAMIC_DISPATCH(SumsAny)(args);
  return absl::OkStatus();
}

absl::Status AddColumnSquares(const AddColumnSquaresArgs& args) {
  HWY_DYNAMIC_DISPATCH(SquaresAny)(args);
  return absl::OkStatus();
}

absl::Status AddUnitRows(const AddUnitRowsArgs& args) {
  HWY_DYNAMIC_DISPATCH(UnitRowsAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
