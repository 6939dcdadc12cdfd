#include <cmath>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/pointer_loss.h"

namespace isthmus::cuda {
namespace {

constexpr int kTokensPerBlock = 64;

struct PointerLossInputs {
  const float *vocabulary_loss, *log_sum_exp, *pointer_log_sum_exp, *log_match;
};
struct PointerLossOutputs {
  float *loss, *target_weight, *excess_weight, *grad_log_match, *grad_log_sink;
};

// One thread handles one token. The formulas are those of ops/cpu/pointer_loss.cc, in fp64.
template <typename T>
__global__ void PointerLossKernel(PointerLossInputs in, Rows<const float> slot, const T* sink, double scale,
                                  PointerLossOutputs out, Rows<T> grad_slot, int tokens) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  const double gate = static_cast<double>(slot[n][0]) - static_cast<double>(in.log_sum_exp[n]);
  const double log_sink = static_cast<double>(Widen(*sink)) - static_cast<double>(in.pointer_log_sum_exp[n]);
  const double share = 1 / (1 + exp(-gate)), rest = 1 / (1 + exp(gate));
  const double log_share = gate < 0 ? gate - log1p(exp(gate)) : -log1p(exp(-gate));
  const double sink_mass = exp(log_sink), pointed = -expm1(log_sink);
  const double kept = rest + share * sink_mass;
  const double log_vocabulary = log(kept) - static_cast<double>(in.vocabulary_loss[n]);
  const double log_pointer = log_share + static_cast<double>(in.log_match[n]);
  const double larger = log_vocabulary > log_pointer ? log_vocabulary : log_pointer;
  const double smaller = log_vocabulary > log_pointer ? log_pointer : log_vocabulary;
  const double loss = -larger - log1p(exp(smaller - larger));
  out.loss[n] = static_cast<float>(loss);
  if (out.target_weight == nullptr) return;
  const double of_vocabulary = exp(log_vocabulary + loss), of_pointer = exp(log_pointer + loss);
  const double slope = of_vocabulary * share * rest * pointed / kept - of_pointer * rest;
  out.target_weight[n] = static_cast<float>(of_vocabulary);
  out.excess_weight[n] = static_cast<float>(-slope);
  out.grad_log_match[n] = static_cast<float>(-scale * of_pointer);
  out.grad_log_sink[n] = static_cast<float>(-scale * of_vocabulary * share * sink_mass / kept);
  grad_slot[n][0] = Narrow<T>(static_cast<float>(scale * slope));
}

}  // namespace

absl::Status PointerLoss(const PointerLossArgs& args, const Context& context) {
  const PointerLossInputs in = {args.vocabulary_loss.As<const float>(), args.log_sum_exp.As<const float>(),
                                args.pointer_log_sum_exp.As<const float>(), args.log_match.As<const float>()};
  const PointerLossOutputs out = {args.loss.As<float>(), args.target_weight.As<float>(), args.excess_weight.As<float>(),
                                  args.grad_log_match.As<float>(), args.grad_log_sink.As<float>()};
  return VisitElements(args.sink.dtype, [&](auto zero) {
    using T = decltype(zero);
    return Launch("PointerLoss", PointerLossKernel<T>,
                  {dim3(BlocksFor(args.loss.columns, kTokensPerBlock)), dim3(kTokensPerBlock)}, context, in,
                  Rows<const float>(args.slot), args.sink.As<const T>(), args.scale, out, Rows<T>(args.grad_slot),
                  static_cast<int>(args.loss.columns));
  });
}

}  // namespace isthmus::cuda
