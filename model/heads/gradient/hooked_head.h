// Puts what may happen to the gradient on its way back around any head whose U is a parameter: what is passed back to
// the hidden states (model.head.backward), which part of the head's own gradient the optimizer gets
// (model.head.weight_gradient), and losses on the head itself, which add to that (model.head.orthogonality and
// model.head.alignment). The forward pass stays as it is. The decomposition still sees the head's own A = G W and B.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_HOOKED_HEAD_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_HOOKED_HEAD_H_

#include <memory>
#include <string>

#include "model/heads/heads.h"
#include "model/heads/lm_head.h"
#include "proto/config.pb.h"

namespace isthmus {

// Returns `head` itself if the configuration asks for none of them.
std::unique_ptr<LmHead> WithHooks(const HeadRequest& request, std::unique_ptr<LmHead> head);

// Works as HeadKind::check.
std::string CheckHooks(const proto::ModelConfig& config, const HeadKind& kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_HOOKED_HEAD_H_
