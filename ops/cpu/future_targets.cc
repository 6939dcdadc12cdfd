#include "ops/future_targets.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/cpu/visit.h"
#include "ops/cross_entropy.h"
#include "runtime/parallel_for.h"

namespace isthmus::cpu {
namespace {

template <typename Args>
FutureTargetsOfToken TargetsOf(const Args& args, int64_t n) {
  return {args.targets.template As<int32_t>() + n, args.targets.row_stride, args.weights.template As<double>(),
          static_cast<int>(args.weights.columns)};
}

template <typename T>
void FindLogits(const FutureTargetLogitsArgs& args) {
  ParallelFor(args.logits.rows, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t k = 0; k < args.targets.rows; ++k) {
        const int64_t column = args.targets.Row<int32_t>(k)[n] - args.first_row;
        const bool owned = column >= 0 && column < args.logits.columns;
        args.target_logits.Row<T>(n)[k] = owned ? static_cast<T>(args.form.Capped(args.logits.Row<T>(n)[column]))
                                                : -std::numeric_limits<T>::infinity();
      }
    }
  });
}

// The first steps are those of CrossEntropyCombine.
template <typename T>
void LossesOfToken(const FutureTargetLossesArgs& args, int64_t n) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const int64_t tokens = args.losses.columns;
  const FutureTargetsOfToken targets = TargetsOf(args, n);
  const auto statistics = [&](int64_t shard) { return args.gathered.Row<T>(shard * tokens + n); };
  double maximum = -kInfinity, target = -kInfinity, others = 0;
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    maximum = std::max<double>(maximum, statistics(shard)[0]);
    if (statistics(shard)[3] != -kInfinity) target = statistics(shard)[3];
  }
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    const T* s = statistics(shard);
    if (s[1] != 0) others += double{s[1]} * std::exp(double{s[0]} - maximum);
  }
  const double total = std::exp(target - maximum) + others, log_sum_exp = maximum + std::log(total);
  const TokenWeights at_first = targets.Of(targets.target(0));
  args.target_weight.As<T>()[n] = static_cast<T>(at_first.target);
  args.excess_weight.As<T>()[n] = static_cast<T>(at_first.excess);
  for (int k = 1; k <= targets.count; ++k) {
    double logit = -kInfinity;
    for (int64_t shard = 0; shard < args.shards; ++shard) {
      if (const double found = statistics(shard)[kCrossEntropyStatistics + k - 1]; found != -kInfinity) logit = found;
    }
    args.losses.Row<T>(k - 1)[n] = targets.target(k) == targets.target(0)
                                       ? args.loss.As<T>()[n]
                                       : static_cast<T>(std::log(total) - (logit - maximum));
  }
  const double factor = args.form.ProbabilityFactor(log_sum_exp, at_first);
  for (int64_t shard = 0; shard < args.shards; ++shard) {
    const T* s = statistics(shard);
    const double share = std::exp(double{s[0]} - maximum) / total;
    double energy = s[2] != 0 ? double{s[2]} * share * share * factor * factor : 0;
    if (s[3] != -kInfinity) {
      const double gradient = args.form.TargetGradient(-(others / total), log_sum_exp, s[3], at_first);
      energy += gradient * gradient;
    }
    // The sum has (s β p)² of a later target, and its gradient is s (β p - ω).
    for (int k = 1; k <= targets.count; ++k) {
      const double logit = s[kCrossEntropyStatistics + k - 1];
      if (logit == -kInfinity || !targets.IsNew(k)) continue;
      const double slope = args.form.Slope(logit), weight = targets.Of(targets.target(k)).target;
      energy += slope * slope * weight * (weight - 2 * factor * std::exp(logit - maximum) / total);
    }
    args.energy.Row<double>(shard)[n] = energy < 0 ? 0 : energy;  // rounding may make it negative; NaN stays
  }
}

template <typename T, typename Out>
void Gradient(const FutureTargetGradientArgs& args) {
  ParallelFor(args.target_logits.rows, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const FutureTargetsOfToken targets = TargetsOf(args, n);
      const double log_sum_exp = double{args.log_sum_exp.As<T>()[n]};
      for (int k = 1; k <= targets.count; ++k) {
        const int64_t column = targets.target(k) - args.first_row;
        if (column < 0 || column >= args.grad_logits.columns || !targets.IsNew(k)) continue;
        const double logit = double{args.target_logits.Row<T>(n)[k - 1]};
        const double gradient = args.form.TargetGradient(std::expm1(logit - log_sum_exp), log_sum_exp, logit,
                                                         targets.Of(targets.target(k)));
        args.grad_logits.Row<Out>(n)[column] = static_cast<Out>(static_cast<T>(args.scale * gradient));
      }
    }
  });
}

}  // namespace

absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args) {
  args.logits.dtype == DType::kFloat64 ? FindLogits<double>(args) : FindLogits<float>(args);
  return absl::OkStatus();
}

absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args) {
  ParallelFor(args.losses.columns, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      args.gathered.dtype == DType::kFloat64 ? LossesOfToken<double>(args, n) : LossesOfToken<float>(args, n);
    }
  });
  return absl::OkStatus();
}

absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args) {
  if (args.target_logits.dtype == DType::kFloat64) {
    Gradient<double, double>(args);
  } else {
    args.grad_logits.dtype == DType::kBFloat16 ? Gradient<float, BFloat16>(args) : Gradient<float, float>(args);
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
