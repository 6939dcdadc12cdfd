#include "tests/support/every_head.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/heads/heads.h"

namespace isthmus::testing {

std::vector<SmallHead> EveryHead() {
  static const std::vector<SmallHead> kTable = {
      {.kind = "full"},
      {.kind = "tied", .tied = true},
      {.kind = "factorised", .settings = "rank: 4"},
      {.kind = "sampled", .settings = "sampled { classes: 40 }"},
      {.kind = "cluster", .settings = "clusters { kind: 'order' count: 7 }"},
      {.kind = "hierarchical", .settings = "clusters { kind: 'order' count: 7 }"},
      {.kind = "wide"},
      {.kind = "mixture", .settings = "mixture { count: 2 }"},
      {.kind = "copy", .settings = "copy_width: 4"},
      {.kind = "contrastive", .tied = true},
  };
  std::vector<SmallHead> heads;
  for (const std::string& name : HeadNames()) {
    const auto found =
        std::find_if(kTable.begin(), kTable.end(), [&](const SmallHead& head) { return head.kind == name; });
    if (found == kTable.end()) {
      ADD_FAILURE() << "no settings of the head " << name
                    << ": add a line to kTable of tests/support/every_head.cc, with those that a run needs";
    } else {
      heads.push_back(*found);
    }
  }
  return heads;
}

std::string ModelText(const SmallHead& head) {
  return absl::StrCat("tied_embeddings: ", head.tied ? "true" : "false", " head { kind: '", head.kind, "' ",
                      head.settings, " }");
}

}  // namespace isthmus::testing
