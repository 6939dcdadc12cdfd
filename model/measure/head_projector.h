// Finds the projector P on the head's column space, M⁺ = P Pᵀ, anew before each measured step, and the head's singular
// values. U is the vocabulary-sized factor as in model/measure/head_sums.h.
//
// M = UᵀU is summed up in fp32 and factored in fp64. If its condition is too high for that, it is summed up in fp64. If
// U or E has not full rank, the host factors U itself. That takes some 5·(V/tensor_ranks + 8·D)·D² operations of one
// thread. If they would take more than a few seconds, the step goes unmeasured instead.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_PROJECTOR_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_PROJECTOR_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

#include "model/heads/lm_head.h"
#include "model/measure/measurement_memory.h"
#include "model/measure/spectrum_finder.h"
#include "parallel/mesh.h"
#include "runtime/stream.h"

namespace isthmus {

class HeadProjector {
 public:
  // All arguments must outlive the projector.
  HeadProjector(const MeasurementShape& shape, const MeasurementMemory& memory, const Mesh& mesh, Stream& stream)
      : shape_(shape), memory_(memory), mesh_(mesh), stream_(stream), finder_(shape.width) {}

  struct Prepared {
    bool finite = true;        // false: there is no projector
    int64_t rank = 0;          // of W; kUnknownRank if it was not factored
    double energy = 0;         // ‖P‖²
    std::string not_factored;  // why a finite head has no projector; P is zero then
  };
  // Finds UᵀU of the head and of this shard (memory.head.gram, shard_gram), and the projector. Starts to find the
  // singular values if SpectrumFinder wants them. A step that is not above the one before begins anew. Uses
  // memory.head.part_gram and the scratch squares. Collective over the mesh.
  absl::StatusOr<Prepared> Prepare(const HeadView& head, int64_t step, bool fresh);

  // Computes, for a chunk of tokens, F = A P and the rows of U of their targets times P; adds to F's Gram matrix. On
  // GPUs products with P are made of bf16 ones (ops/split.h), no less exact than those in fp32. Only starts work on the
  // stream.
  absl::Status Project(const Tensor& signal, const Tensor& target_rows, const Tensor& projected,
                       const Tensor& target_basis);

  // Returns SpectrumFinder::Latest. The values of a wide head, and their step, may differ between ranks.
  const SpectrumFinder::Found& SingularValues(bool fresh) { return finder_.Latest(fresh); }
  // Returns whether a thread is finding some.
  bool finding() const { return finder_.busy(); }

 private:
  absl::StatusOr<bool> IsFinite();
  absl::Status SumHeadGram();
  absl::Status SumWideGram(const Tensor& rows);
  // Finds wide_projector from head_gram. Returns false if W has not full rank, or if UᵀU has a reciprocal condition
  // below `least`: rounding of the Gram matrix would then show.
  absl::StatusOr<bool> Factor(double least);
  absl::Status BeginSingularValues(int64_t step, bool fresh);
  absl::StatusOr<double> UseProjector();

  const MeasurementShape& shape_;
  const MeasurementMemory& memory_;
  const Mesh& mesh_;
  Stream& stream_;
  SpectrumFinder finder_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_PROJECTOR_H_
