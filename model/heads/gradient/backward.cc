#include "model/heads/gradient/backward.h"

#include "model/kind_list.h"

namespace isthmus {

HeadBackwardKind PreconditionedBackwardKind();
HeadBackwardKind OfRankBackwardKind();
HeadBackwardKind RandomBackwardKind();
HeadBackwardKind DenseFeedbackBackwardKind();

namespace {

const KindList<HeadBackwardKind>& HeadBackwards() {
  static const KindList<HeadBackwardKind> list({
      {.name = "plain", .make = nullptr, .check = nullptr},
      PreconditionedBackwardKind(),
      OfRankBackwardKind(),
      RandomBackwardKind(),
      DenseFeedbackBackwardKind(),
  });
  return list;
}

}  // namespace

const HeadBackwardKind* FindHeadBackward(const std::string& name) { return HeadBackwards().Find(name); }

std::vector<std::string> HeadBackwardNames() { return HeadBackwards().Names(); }

}  // namespace isthmus
