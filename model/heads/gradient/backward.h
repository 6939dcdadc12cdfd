// Says what a head passes back to the hidden states in place of A = G W, the gradient (model.head.backward). The forward
// pass stays as it is, and so do the gradients of the head's own parameters. Each kind is one file beside this one and
// one line in backward.cc.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_BACKWARD_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_BACKWARD_H_

#include <absl/status/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "model/parameter_builder.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace isthmus {

// Calls come in this order: Declare; Place, which may come twice; Bind; for each step BeginStep; for each of its
// micro-batches AddChunk for each chunk, and Finish. N are the tokens of a micro-batch, D is the width.
class HeadBackward {
 public:
  virtual ~HeadBackward() = default;

  // Works as in LmHead.
  virtual void Declare(ParameterBuilder& /*parameters*/) {}
  virtual void Place(int64_t chunk, TensorPlacer& placer) = 0;
  virtual void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) = 0;

  // `head` is the head as it is now, and `step` counts from 1. Collective over the tensor group.
  virtual absl::Status BeginStep(const HeadView& /*head*/, int64_t /*step*/) { return absl::OkStatus(); }
  // grad_logits [n, V_i] compute type, hidden [n, D]; `passed` [n, D] is theirs of what Finish completes.
  virtual absl::Status AddChunk(const Tensor& /*grad_logits*/, const Tensor& /*hidden*/, const Tensor& /*passed*/) {
    return absl::OkStatus();
  }
  // `plain` is the local part of A, complete. The local part of `passed` [N, D] becomes what is passed back. Collective
  // over both groups.
  virtual absl::Status Finish(const Tensor& plain, const Tensor& passed) = 0;

  // Floating-point operations per token, for the whole vocabulary.
  virtual double FlopsPerToken() const = 0;
};

// A HeadBackward is made from this.
struct HeadBackwardRequest {
  const proto::HeadBackwardConfig& config;
  const HeadShape shape;
  const PartSetting& setting;
};

struct HeadBackwardKind {
  std::string name;                                                               // model.head.backward.kind
  std::function<std::unique_ptr<HeadBackward>(const HeadBackwardRequest&)> make;  // null: A is passed back
  // Works as in HeadKind.
  std::function<std::string(const proto::ModelConfig&)> check;
};

// Returns null if there is none of that name.
const HeadBackwardKind* FindHeadBackward(const std::string& name);
// Returns the names, for messages.
std::vector<std::string> HeadBackwardNames();

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_BACKWARD_H_
