#include "model/families/family.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <utility>

#include "model/kind_list.h"
#include "model/norm.h"

namespace isthmus {

Family LlamaFamily();

namespace {

KindList<Family>& Families() {
  static KindList<Family> list({
      LlamaFamily(),
  });
  return list;
}

// Returns which property a family asks of a block that the program's lacks, and what the program has. The text is empty
// if there is none.
std::string WhatBlockLacks(const BlockSlot& slot) {
  const BlockKind* kind = FindBlock(slot.kind);
  if (kind == nullptr) {
    return absl::StrCat("has a block \"", slot.kind, "\"; this program has ", absl::StrJoin(BlockNames(), ", "));
  }
  for (const std::string& option : slot.options.Asked()) {
    if (std::find(kind->options.begin(), kind->options.end(), option) != kind->options.end()) continue;
    return absl::StrCat("asks for ", option, " in \"", slot.kind, "\"; this program's block of that kind has ",
                        kind->options.empty() ? "no options" : absl::StrJoin(kind->options, ", "));
  }
  return "";
}

// Returns the same for a family.
std::string WhatFamilyLacks(const Family& family, const proto::ModelConfig& config) {
  if (FindNorm(family.norm) == nullptr) {
    return absl::StrCat("has norms \"", family.norm, "\"; this program has ", absl::StrJoin(NormNames(), ", "));
  }
  if (family.positions != Positions::kRotary) return "has learned positions; this program has rotary ones";
  if (family.residual != ResidualForm::kSequential) {
    return "has blocks in parallel; this program runs the blocks of a layer one after another";
  }
  for (int64_t layer = 0; layer < config.layers(); ++layer) {
    for (const BlockSlot& slot : family.blocks(config, layer)) {
      const std::string lacks = WhatBlockLacks(slot);
      if (!lacks.empty()) return lacks;
    }
  }
  return "";
}

}  // namespace

const Family* FindFamily(const std::string& name) { return Families().Find(name); }

absl::Status CheckFamily(const proto::ModelConfig& config, absl::string_view source) {
  const auto refused = [&](const std::string& found) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": model.family: found \"", config.family(), "\"", found));
  };
  const Family* family = FindFamily(config.family());
  if (family == nullptr) return refused("; accepts " + absl::StrJoin(Families().Names(), ", "));
  const std::string lacks = WhatFamilyLacks(*family, config);
  return lacks.empty() ? absl::OkStatus() : refused(", which " + lacks);
}

void RegisterFamily(Family family) { Families().Add(std::move(family)); }

std::string Family::ForeignName(const std::string& own) const {
  absl::string_view rest = own;
  std::string begin;
  if (absl::ConsumePrefix(&rest, "layers.")) {
    const size_t end = rest.find('.') + 1;
    begin = absl::StrCat(foreign_layers, rest.substr(0, end));
    rest.remove_prefix(end);
  }
  for (const ForeignPart& part : foreign_names) {
    if (rest == part.own) return absl::StrCat(begin, part.foreign);
  }
  return "";
}

}  // namespace isthmus
