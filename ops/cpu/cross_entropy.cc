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

// This is the soft cap of ops/loss_form.h.
template <class D>
class SoftCap {
 public:
  using Lanes = hn::Vec<D>;
  struct Capped {
    Lanes logits, slopes;  // z', s
  };

  SoftCap(D d, double cap)
      : d_(d), cap_(hn::Set(d, static_cast<hn::TFromD<D>>(cap))), inverse_(hn::Div(hn::Set(d, 1), cap_)) {}

  HWY_INLINE Capped operator()(Lanes logits) const {
    const auto tanh = hn::Tanh(d_, hn::Mul(logits, inverse_)), one = hn::Set(d_, 1);
    return {hn::IfThenElse(hn::IsFinite(logits), hn::Mul(cap_, tanh), logits),
            hn::Mul(hn::Sub(one, tanh), hn::Add(one, tanh))};
  }

 private:
  D d_;
  Lanes cap_, inverse_;
};

template <typename T>
void RowStatistics(const T* logits, int64_t count, int64_t target, const LossForm& form, T* statistics) {
  const hn::ScalableTag<T> d;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const bool owns_target = target >= 0 && target < count;
  const T target_logit = owns_target ? static_cast<T>(form.Capped(logits[target])) : -kInfinity;
  auto maxima = hn::Set(d, -kInfinity);
  ForParts(d, count, [&](int64_t i, size_t n) { maxima = hn::Max(maxima, LoadLogits(d, logits + i, n)); });
  const T maximum = static_cast<T>(form.Capped(hn::GetLane(hn::MaxOfLanes(d, maxima))));

  const bool capped = form.capped();
  const SoftCap cap(d, capped ? form.soft_cap : 1);
  const auto shift = hn::Set(d, maximum);
  double sum = 0, sum_sq = 0;
  for (int64_t begin = 0; begin < count; begin += kSumBlock) {
    auto block = hn::Zero(d), block_sq = hn::Zero(d);
    ForParts(d, std::min(kSumBlock, count - begin), [&](int64_t i, size_t n) {
      auto z = LoadLogits(d, logits + begin + i, n), slopes = hn::Set(d, 1);
      if (capped) {
        const auto found = cap(z);
        z = found.logits;
        slopes = found.slopes;
      }
      // The target is left out of the sums.
      if (const int64_t lane = target - begin - i; lane >= 0 && lane < static_cast<int64_t>(n)) {
        const auto before = hn::FirstN(d, static_cast<size_t>(lane)),
                   through = hn::FirstN(d, static_cast<size_t>(lane) + 1);
        z = hn::IfThenElse(hn::AndNot(before, through), hn::Set(d, -kInfinity), z);
      }
      const auto e = ExpOrNaN(d, hn::Sub(z, shift));
      block = hn::Add(block, e);
      const auto weighted = capped ? hn::Mul(e, slopes) : e;
      block_sq = hn::MulAdd(weighted, weighted, block_sq);
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
      RowStatistics(args.logits.Row<T>(row), args.logits.columns, targets[row] - args.first_row, args.form,
                    args.statistics.Row<T>(row));
    }
  });
}

template <typename T, typename Out>
void Gradient(const CrossEntropyGradientArgs& args) {
  const hn::ScalableTag<T> d;
  const int32_t* targets = args.targets.As<int32_t>();
  const bool capped = args.form.capped();
  const SoftCap cap(d, capped ? args.form.soft_cap : 1);
  ParallelFor(args.logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = args.logits.Row<T>(row);
      Out* grad = args.grad_logits.Row<Out>(row);
      const T log_sum_exp = args.log_sum_exp.As<T>()[row];
      const auto shift = hn::Set(d, log_sum_exp);
      TokenWeights weights;
      if (args.target_weight.defined()) weights = {args.target_weight.As<T>()[row], args.excess_weight.As<T>()[row]};
      const auto factor = hn::Set(d, static_cast<T>(args.scale * args.form.ProbabilityFactor(log_sum_exp, weights)));
      // The memory of the target's logit may be that of its gradient.
      const int64_t target = targets[row] - args.first_row;
      const bool owns_target = target >= 0 && target < args.logits.columns;
      const double target_logit = owns_target ? args.form.Capped(logits[target]) : 0;
      ForParts(d, args.logits.columns, [&](int64_t i, size_t n) {
        auto z = LoadPart(d, logits + i, n), weight = factor;
        if (capped) {
          const auto found = cap(z);
          z = found.logits;
          weight = hn::Mul(weight, found.slopes);
        }
        StorePart(d, hn::Mul(ExpOrNaN(d, hn::Sub(z, shift)), weight), grad + i, n);
      });
      if (owns_target) {
        const double miss = std::expm1(-double{args.loss.As<T>()[row]});
        grad[target] = static_cast<Out>(
            static_cast<T>(args.scale * args.form.TargetGradient(miss, double{log_sum_exp}, target_logit, weights)));
      }
    }
  });
}

template <typename T>
void Cap(const CapLogitsArgs& args) {
  const hn::ScalableTag<T> d;
  const SoftCap cap(d, args.soft_cap);
  ParallelFor(args.logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      T* logits = args.logits.Row<T>(row);
      ForParts(d, args.logits.columns,
               [&](int64_t i, size_t n) { StorePart(d, cap(LoadPart(d, logits + i, n)).logits, logits + i, n); });
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
void CapAny(const CapLogitsArgs& args) { args.logits.dtype == DType::kFloat64 ? Cap<double>(args) : Cap<float>(args); }

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(StatisticsAny);
HWY_EXPORT(GradientAny);
HWY_EXPORT(CapAny);

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
  const double log_sum_exp = maximum + std::log(total);
  args.loss.As<T>()[n] = static_cast<T>(loss);
  args.log_sum_exp.As<T>()[n] = static_cast<T>(log_sum_exp);
  if (!args.energy.defined()) return;
  const double factor = args.form.ProbabilityFactor(log_sum_exp);
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    const T* s = statistics(shard);
    const double share = std::exp(double{s[0]} - maximum) / total;
    double energy = s[2] != 0 ? double{s[2]} * share * share : 0;
    if (factor != 1) energy *= factor * factor;
    // The shard that owns the target has 1 - p_y = others / total.
    if (s[3] != -std::numeric_limits<T>::infinity()) {
      const double gradient = args.form.TargetGradient(-(others / total), log_sum_exp, s[3]);
      energy += gradient * gradient;
    }
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

absl::Status CapLogits(const CapLogitsArgs& args) {
  HWY_DYNAMIC_DISPATCH(CapAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
