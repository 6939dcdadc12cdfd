#include "ops/cross_entropy.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/cross_entropy.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// fp32 sums over a vocabulary are formed in blocks of this many logits. The blocks are added in fp64, so that the error
// does not grow with the vocabulary.
constexpr int64_t kSumBlock = 2048;

// Lanes beyond a partial vector count as -infinity.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadLogits(D d, const T* p, size_t n) {
  const auto value = LoadPart(d, p, n);
  if (n >= hn::Lanes(d)) return value;
  return hn::IfThenElse(hn::FirstN(d, n), value, hn::Set(d, -std::numeric_limits<T>::infinity()));
}

template <typename T>
void RowStatistics(const T* logits, int64_t count, int64_t target, T* statistics) {
  const hn::ScalableTag<T> d;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const bool owns_target = target >= 0 && target < count;
  const T target_logit = owns_target ? logits[target] : -kInfinity;
  auto maxima = hn::Set(d, -kInfinity);
  ForParts(d, count, [&](int64_t i, size_t n) { maxima = hn::Max(maxima, LoadLogits(d, logits + i, n)); });
  const T maximum = hn::GetLane(hn::MaxOfLanes(d, maxima));

  const auto shift = hn::Set(d, maximum);
  double sum = 0, sum_sq = 0;
  for (int64_t begin = 0; begin < count; begin += kSumBlock) {
    auto block = hn::Zero(d), block_sq = hn::Zero(d);
    ForParts(d, std::min(kSumBlock, count - begin), [&](int64_t i, size_t n) {
      auto z = LoadLogits(d, logits + begin + i, n);
      // The target is left out of the sums.
      if (const int64_t lane = target - begin - i; lane >= 0 && lane < static_cast<int64_t>(n)) {
        const auto before = hn::FirstN(d, static_cast<size_t>(lane)),
                   through = hn::FirstN(d, static_cast<size_t>(lane) + 1);
        z = hn::IfThenElse(hn::AndNot(before, through), hn::Set(d, -kInfinity), z);
      }
      const auto e = ExpOrNaN(d, hn::Sub(z, shift));
      block = hn::Add(block, e);
      block_sq = hn::MulAdd(e, e, block_sq);
    });
    sum += static_cast<double>(SumLanes(d, block));
    sum_sq += static_cast<double>(SumLanes(d, block_sq));
  }
  statistics[0] = maximum;
  statistics[1] = static_cast<T>(sum);
  statistics[2] = static_cast<T>(sum_sq);
  statistics[3] = target_logit;
}

template <typename T>
void Statistics(const CrossEntropyStatisticsArgs& args) {
  const int32_t* targets = args.targets.As<int32_t>();
  ParallelFor(args.logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      RowStatistics(args.logits.Row<T>(row), args.logits.columns, targets[row] - args.first_row,
                    args.statistics.Row<T>(row));
    }
  });
}

template <typename T, typename Out>
void Gradient(const CrossEntropyGradientArgs& args) {
  const hn::ScalableTag<T> d;
  const int32_t* targets = args.targets.As<int32_t>();
  const auto scale = hn::Set(d, static_cast<T>(args.scale));
  ParallelFor(args.logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = args.logits.Row<T>(row);
      Out* grad = args.grad_logits.Row<Out>(row);
      const auto shift = hn::Set(d, args.log_sum_exp.As<T>()[row]);
      ForParts(d, args.logits.columns, [&](int64_t i, size_t n) {
        StorePart(d, hn::Mul(ExpOrNaN(d, hn::Sub(LoadPart(d, logits + i, n), shift)), scale), grad + i, n);
      });
      const int64_t target = targets[row] - args.first_row;
      if (target >= 0 && target < args.logits.columns) {
        grad[target] = static_cast<Out>(static_cast<T>(args.scale * std::expm1(-double{args.loss.As<T>()[row]})));
      }
    }
  });
}

void StatisticsAny(const CrossEntropyStatisticsArgs& args) {
  args.logits.dtype == DType::kFloat64 ? Statistics<double>(args) : Statistics<float>(args);
}
void GradientAny(const CrossEntropyGradientArgs& args) {
  if (args.logits.dtype == DType::kFloat64) return Gradient<double, double>(args);
  args.grad_logits.dtype == DType::kBFloat16 ? Gradient<float, BFloat16>(args) : Gradient<float, float>(args);
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(StatisticsAny);
HWY_EXPORT(GradientAny);

namespace {

template <typename T>
void CombineToken(const CrossEntropyCombineArgs& args, int64_t n) {
  const int64_t tokens = args.loss.columns;
  const auto statistics = [&](int64_t shard) { return args.gathered.Row<T>(shard * tokens + n); };
  double maximum = -std::numeric_limits<double>::infinity(), target = maximum;
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    maximum = std::max<double>(maximum, statistics(shard)[0]);
    // One shard at most owns the target; its logit may be NaN.
    if (statistics(shard)[3] != -std::numeric_limits<T>::infinity()) target = statistics(shard)[3];
  }
  // The sum over all tokens but the target, relative to the maximum.
  double others = 0;
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    const T* s = statistics(shard);
    if (s[1] != 0) others += double{s[1]} * std::exp(double{s[0]} - maximum);
  }
  const double own = std::exp(target - maximum), total = own + others;
  // This is log(total / own), without the cancellation of log Z - z_y when the target is nearly certain.
  const double ratio = others / own;
  const double loss = std::isfinite(ratio) ? std::log1p(ratio) : std::log(total) - (target - maximum);
  args.loss.As<T>()[n] = static_cast<T>(loss);
  args.log_sum_exp.As<T>()[n] = static_cast<T>(maximum + std::log(total));
  if (!args.energy.defined()) return;
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    const T* s = statistics(shard);
    const double share = std::exp(double{s[0]} - maximum) / total;
    double energy = s[2] != 0 ? double{s[2]} * share * share : 0;
    // This is (1 - p_y)² = (others / total)², on the shard that owns the target.
    if (s[3] != -std::numeric_limits<T>::infinity()) energy += (others / total) * (others / total);
    args.energy.Row<double>(shard)[n] = energy;
  }
}

}  // namespace

absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args) {
  HWY_DYNAMIC_DISPATCH(StatisticsAny)(args);
  return absl::OkStatus();
}

absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args) {
  for (int64_t n = 0; n < args.loss.columns; ++n) {
    args.gathered.dtype == DType::kFloat64 ? CombineToken<double>(args, n) : CombineToken<float>(args, n);
  }
  return absl::OkStatus();
}

absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args) {
  HWY_DYNAMIC_DISPATCH(GradientAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
