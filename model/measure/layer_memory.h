// Describes the memory in which a rank measures the residual stream at L + 1 places: the entrances of the layers and of
// the final norm.
#ifndef ISTHMUS_MODEL_MEASURE_LAYER_MEMORY_H_
#define ISTHMUS_MODEL_MEASURE_LAYER_MEMORY_H_

#include <cstdint>

#include "model/stream_observation.h"
#include "runtime/arena.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace isthmus {

struct LayerShape {
  int64_t layers = 0;   // L
  int64_t width = 0;    // D
  int64_t tokens = 0;   // that a rank has of the stream of one micro-batch
  int64_t sampled = 0;  // S, a rank's tokens of the sample, at most
  DType type = DType::kFloat32;

  // The sample of a step has at most this many tokens, so that it stays small beside the model.
  static constexpr int64_t kMostSampled = 512;
};

// Tensors are fp64 unless said otherwise.
struct LayerMemory {
  Tensor gradient_squares;   // [1, L + 1]: Backbone::Observation::layer_squares
  Tensor sums;               // [1, …]: the sums of `stream`, neighbours in one tensor
  StreamObservation stream;  // S sampled rows for each place
  Tensor centred_rows;       // [S, D]: sampled rows of one place less their mean
  // The sums over those rows are neighbours in one tensor.
  Tensor centred_sums;       // [1, …]
  Tensor centred_unit_sums;  // [L + 1, D]: Σ c / ‖c‖ over rows c that are not zero
  Tensor centred_counts;     // [1, L + 1]: the number of those rows
  Tensor centred_squares;    // [1, L + 1]: Σ ‖c‖²
  // These are found once the sums are those of the mesh: ‖Σ x / ‖x‖‖², ‖Σ c / ‖c‖‖² and the mean's square, by place.
  Tensor norms;  // [3, L + 1]

  static LayerMemory Place(const LayerShape& shape, TensorPlacer& placer);
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_LAYER_MEMORY_H_
