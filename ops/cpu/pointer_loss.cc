#include "ops/pointer_loss.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

namespace isthmus::cpu {
namespace {

template <typename T>
void PointerLossOfType(const PointerLossArgs& args) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const double sink = static_cast<double>(static_cast<C>(args.sink.As<T>()[0]));
  ParallelFor(args.loss.columns, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const auto at = [n](const ConstTensor& tensor) { return double{tensor.As<C>()[n]}; };
      const double gate = double{args.slot.Row<C>(n)[0]} - at(args.log_sum_exp);
      const double log_sink = sink - at(args.pointer_log_sum_exp);
      const double share = 1 / (1 + std::exp(-gate)), rest = 1 / (1 + std::exp(gate));  // σ and 1 - σ
      const double log_share = gate < 0 ? gate - std::log1p(std::exp(gate)) : -std::log1p(std::exp(-gate));
      const double sink_mass = std::exp(log_sink), pointed = -std::expm1(log_sink);  // a_0 and 1 - a_0
      const double kept = rest + share * sink_mass;                                  // b
      const double log_vocabulary = std::log(kept) - at(args.vocabulary_loss);
      const double log_pointer = log_share + at(args.log_match);
      const double larger = log_vocabulary > log_pointer ? log_vocabulary : log_pointer;
      const double smaller = log_vocabulary > log_pointer ? log_pointer : log_vocabulary;
      const double loss = -larger - std::log1p(std::exp(smaller - larger));
      args.loss.As<C>()[n] = static_cast<C>(loss);
      if (!args.target_weight.defined()) continue;
      const double of_vocabulary = std::exp(log_vocabulary + loss), of_pointer = std::exp(log_pointer + loss);
      const double slope = of_vocabulary * share * rest * pointed / kept - of_pointer * rest;
      args.target_weight.As<C>()[n] = static_cast<C>(of_vocabulary);
      args.excess_weight.As<C>()[n] = static_cast<C>(-slope);
      args.grad_log_match.As<C>()[n] = static_cast<C>(-args.scale * of_pointer);
      args.grad_log_sink.As<C>()[n] = static_cast<C>(-args.scale * of_vocabulary * share * sink_mass / kept);
      args.grad_slot.Row<T>(n)[0] = static_cast<T>(static_cast<C>(args.scale * slope));
    }
  });
}

}  // namespace

absl::Status PointerLoss(const PointerLossArgs& args) {
  VisitFloating(args.sink.dtype, [&](auto zero) { PointerLossOfType<decltype(zero)>(args); });
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
