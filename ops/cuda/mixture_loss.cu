#include <cmath>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/mixture_loss.h"

namespace isthmus::cuda {
namespace {

struct MixtureTensors {
  Rows<const float> prior;
  const float* component_loss;
  Rows<const double> component_energy;
  float *loss, *posterior;
  Rows<double> energy;
};

// One thread handles one token. The formulas are those of ops/cpu/mixture_loss.cc, in fp64.
template <typename Gradient>
__global__ void MixtureLossKernel(MixtureTensors tensors, Rows<Gradient> grad_prior, double scale, int tokens,
                                  int count, int shards) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  const float *prior = tensors.prior[n], *losses = tensors.component_loss + n;
  const auto joint = [&](int k) {
    return static_cast<double>(prior[k]) - static_cast<double>(losses[int64_t{k} * tokens]);
  };
  double largest_prior = -INFINITY, largest = -INFINITY;
  for (int k = 0; k < count; ++k) {
    largest_prior = fmax(largest_prior, static_cast<double>(prior[k]));
    largest = fmax(largest, joint(k));
  }
  double priors = 0, sum = 0;
  for (int k = 0; k < count; ++k) {
    priors += exp(static_cast<double>(prior[k]) - largest_prior);
    sum += exp(joint(k) - largest);
  }
  tensors.loss[n] = static_cast<float>(largest_prior + log(priors) - largest - log(sum));
  for (int shard = 0; shard < shards; ++shard) tensors.energy[shard][n] = 0;
  for (int k = 0; k < count; ++k) {
    const int64_t place = int64_t{k} * tokens + n;
    const double posterior = exp(joint(k) - largest) / sum;
    tensors.posterior[place] = static_cast<float>(posterior);
    for (int shard = 0; shard < shards; ++shard) {
      tensors.energy[shard][n] += posterior * posterior * tensors.component_energy[shard][place];
    }
    if (grad_prior.data == nullptr) continue;
    const double gradient = scale * (exp(static_cast<double>(prior[k]) - largest_prior) / priors - posterior);
    grad_prior[n][k] = Narrow<Gradient>(static_cast<float>(gradient));
  }
}

}  // namespace

absl::Status MixtureLoss(const MixtureLossArgs& args, const Context& context) {
  constexpr int kTokensPerBlock = 64;
  const int64_t tokens = args.prior_logits.rows;
  const MixtureTensors tensors = {Rows<const float>(args.prior_logits),
                                  args.component_loss.As<const float>(),
                                  Rows<const double>(args.component_energy),
                                  args.loss.As<float>(),
                                  args.posterior.As<float>(),
                                  Rows<double>(args.energy)};
  return VisitElements(args.grad_prior.dtype, [&](auto zero) {
    using Gradient = decltype(zero);
    return Launch("MixtureLoss", MixtureLossKernel<Gradient>,
                  {dim3(BlocksFor(tokens, kTokensPerBlock)), dim3(kTokensPerBlock)}, context, tensors,
                  Rows<Gradient>(args.grad_prior), args.scale, static_cast<int>(tokens),
                  static_cast<int>(args.prior_logits.columns), static_cast<int>(args.energy.rows));
  });
}

}  // namespace isthmus::cuda
