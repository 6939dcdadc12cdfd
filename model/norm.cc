#include "model/norm.h"

#include "model/kind_list.h"

namespace isthmus {

NormKind LayerNormKind();
NormKind RmsNormKind();

namespace {

const KindList<NormKind>& Norms() {
  static const KindList<NormKind> list({
      RmsNormKind(),
      LayerNormKind(),
  });
  return list;
}

}  // namespace

const NormKind* FindNorm(const std::string& name) { return Norms().Find(name); }

std::vector<std::string> NormNames() { return Norms().Names(); }

}  // namespace isthmus
