// Measures the controls of a head whose tensors lie in memory (model/measure/head_controls.h).
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_CONTROLS_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_CONTROLS_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "model/measure/head_controls.h"
#include "model/measure/head_figures.h"
#include "model/measure/tensor_decomposition.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_scales.h"
#include "model/measure/tensor_tokens.h"
#include "parallel/communicator.h"

namespace isthmus {

// `figures` are the trained head's. If they say why G_∥ was not measured, only the number of draws and the isotropic
// figures are found. Passes over the tokens once for each draw and kind of control, and holds one random head at a time.
// Collective over both groups; all
// ranks get the same. Errors: InvalidArgument if a logit of random hidden states is not finite; those of collectives
// and of RandomHead.
absl::StatusOr<HeadControls> MeasureControls(const HeadTensors& tensors, const TensorScales& scales,
                                             const TensorHead& head, const TensorTokenSums& tokens,
                                             const HeadFigures& figures, Communicator& tensor, Communicator& data);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_CONTROLS_H_
