// Measures the residual stream of a training step at the entrance of every layer and of the final norm: the norm of its
// gradient, and its anisotropy before and after centring.
//
// The mean that centring subtracts is that of all tokens of the step, not of the sample. A sample of S rows less its own
// mean would have a mean cosine of about -1 / (S - 1) even without any common direction. Less the mean of N tokens that
// is -1 / (N - 1), which is the definition's own.
#ifndef ISTHMUS_MODEL_MEASURE_LAYER_MEASUREMENT_H_
#define ISTHMUS_MODEL_MEASURE_LAYER_MEASUREMENT_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/layer_figures.h"
#include "model/measure/measurement_memory.h"
#include "parallel/mesh.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"

namespace isthmus {

class LayerMeasurement {
 public:
  // All arguments must outlive this object.
  LayerMeasurement(const MeasurementShape& shape, const MeasurementMemory& memory, const Mesh& mesh, Stream& stream)
      : shape_(shape), memory_(memory.layers), mesh_(mesh), stream_(stream) {}

  // Begins a step of `local_tokens` tokens of every data rank.
  absl::Status Begin(int64_t local_tokens);
  // Is called before each micro-batch; `index` counts from 0.
  absl::Status BeginMicroBatch(int64_t index);
  // Ends the step. Waits for the stream. Collective over the mesh.
  absl::Status Finish();
  // Returns this rank's part of the step's sums after Finish. Their sum over the world takes their place.
  absl::Span<double> sums();
  // Returns the figures by place, from the sums.
  std::vector<LayerFigures> Figures() const;

 private:
  // The sums of a place, in the order in which Finish reads them: with x of all tokens and c of the centred sample
  // ‖∂L/∂x‖², how many x are not zero, ‖Σ x / ‖x‖‖², ‖Σ c / ‖c‖‖², the mean's square, how many c are not zero, Σ ‖c‖².
  enum Sum { kGradientSquare, kCount, kUnitSquare, kCentredUnitSquare, kMeanSquare, kCentredCount, kDeviation, kSums };

  // Sums are of the tokens that a rank has of the stream. Without sequence parallelism every tensor rank has the same.
  absl::Status Reduce(const Tensor& sums);
  bool has_same_tokens_as_another() const { return !shape_.sequence_parallel && mesh_.tensor_rank() != 0; }
  // Finds where the sampled tokens lie in this rank's part of each micro-batch.
  absl::Status PlaceSample(int64_t local_tokens);
  // Adds up the directions of the centred rows at `place`. The mean's place holds its opposite.
  absl::Status AddCentred(int64_t place);

  const MeasurementShape& shape_;
  const LayerMemory& memory_;
  const Mesh& mesh_;
  Stream& stream_;
  int64_t tokens_ = 0;      // N of the step
  HostBuffer positions_;    // of the sampled tokens, by micro-batch
  Tensor placed_;           // the part of it that is filled: int32 [micro-batches, S]
  int64_t own_sample_ = 0;  // tokens of the sample that this rank has
  Matrix sums_;             // by figure and place
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LAYER_MEASUREMENT_H_
