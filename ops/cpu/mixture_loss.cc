#include "ops/mixture_loss.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/dtype.h"

namespace isthmus::cpu {
namespace {

template <typename T, typename Gradient>
void MixToken(const MixtureLossArgs& args, int64_t n) {
  const int64_t tokens = args.prior_logits.rows, count = args.prior_logits.columns;
  const T *prior = args.prior_logits.Row<T>(n), *losses = args.component_loss.As<T>() + n;
  double largest_prior = -std::numeric_limits<double>::infinity(), largest = largest_prior;
  for (int64_t k = 0; k < count; ++k) {
    largest_prior = std::fmax(largest_prior, double{prior[k]});
    largest = std::fmax(largest, double{prior[k]} - double{losses[k * tokens]});
  }
  double priors = 0, sum = 0;
  for (int64_t k = 0; k < count; ++k) {
    priors += std::exp(double{prior[k]} - largest_prior);
    sum += std::exp(double{prior[k]} - double{losses[k * tokens]} - largest);
  }
  args.loss.As<T>()[n] = static_cast<T>(largest_prior + std::log(priors) - largest - std::log(sum));
  for (int64_t shard = 0; shard < args.energy.rows; ++shard) args.energy.Row<double>(shard)[n] = 0;
  for (int64_t k = 0; k < count; ++k) {
    const double posterior = std::exp(double{prior[k]} - double{losses[k * tokens]} - largest) / sum;
    args.posterior.As<T>()[k * tokens + n] = static_cast<T>(posterior);
    for (int64_t shard = 0; shard < args.energy.rows; ++shard) {
      args.energy.Row<double>(shard)[n] +=
          posterior * posterior * args.component_energy.Row<double>(shard)[k * tokens + n];
    }
    if (!args.grad_prior.defined()) continue;
    const double gradient = args.scale * (std::exp(double{prior[k]} - largest_prior) / priors - posterior);
    args.grad_prior.Row<Gradient>(n)[k] = static_cast<Gradient>(static_cast<T>(gradient));
  }
}

template <typename T, typename Gradient>
void MixTokens(const MixtureLossArgs& args) {
  for (int64_t n = 0; n < args.prior_logits.rows; ++n) MixToken<T, Gradient>(args, n);
}

}  // namespace

absl::Status MixtureLoss(const MixtureLossArgs& args) {
  if (args.prior_logits.dtype == DType::kFloat64) {
    MixTokens<double, double>(args);
  } else if (args.grad_prior.defined() && args.grad_prior.dtype == DType::kBFloat16) {
    MixTokens<float, BFloat16>(args);
  } else {
    MixTokens<float, float>(args);
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
