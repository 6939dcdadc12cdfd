// ranks: 1 2 6
// LayerNorm in place of RMSNorm, in every norm of a model.
#include <gtest/gtest.h>

#include <vector>

#include "model/families/family.h"
#include "tests/support/part_checks.h"

namespace isthmus::testing {
namespace {

TEST(LayerNormPart, WorksEverywhere) {
  RegisterFamily({.name = "layer-normed",
                  .blocks =
                      [](const proto::ModelConfig&, int64_t) {
                        return std::vector<BlockSlot>{{"attention", "attention"}, {"swiglu", "feed_forward"}};
                      },
                  .norm = "layer_norm"});
  TinyOptions options = PartOptions();
  options.family = "layer-normed";
  CheckPart(options);
}

}  // namespace
}  // namespace isthmus::testing
