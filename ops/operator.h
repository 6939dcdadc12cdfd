// The way from an operator to its implementation.
#ifndef ISTHMUS_OPS_OPERATOR_H_
#define ISTHMUS_OPS_OPERATOR_H_

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "runtime/backends.h"
#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/work_recorder.h"

namespace isthmus {

// Runs an operator on its stream's device once its arguments have been checked: Dispatch<cpu::Rope, cuda::Rope>(args,
// stream). This is the one place that chooses an implementation; an implementation may call others of its own device.
// In a build without CUDA the compiler drops that branch, so that nothing of ops/cuda is needed. A stream with a
// recorder notes args.Cost(); a dry one computes nothing (runtime/stream.h). Errors: those of the implementation.
template <auto kOnCpu, auto kOnCuda, typename Args>
absl::Status Dispatch(const Args& args, Stream& stream) {
  if (stream.recorder() != nullptr) stream.recorder()->Operator(args.Cost());
  if (stream.dry()) return absl::OkStatus();
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return kOnCuda(args, stream.cuda());
  }
  return kOnCpu(args);
}

// Does work of a model's part that no operator does, on the CPU: it notes `cost`, and calls compute() unless the stream
// is dry. A part touches elements only in operators and in here, so that a dry run knows all of its work. Errors:
// Unimplemented on a GPU.
template <typename Compute>
absl::Status DispatchOwn(const OperatorCost& cost, Stream& stream, const Compute& compute) {
  if (stream.recorder() != nullptr) stream.recorder()->Operator(cost);
  if (stream.dry()) return absl::OkStatus();
  if (stream.on_gpu()) return absl::UnimplementedError(absl::StrCat(cost.name, ": runs on the CPU only"));
  compute();
  return absl::OkStatus();
}

}  // namespace isthmus

#endif  // ISTHMUS_OPS_OPERATOR_H_
