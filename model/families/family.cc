#include "model/families/family.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>

#include <utility>

#include "model/kind_list.h"

namespace isthmus {

Family LlamaFamily();

namespace {

KindList<Family>& Families() {
  static KindList<Family> list({
      LlamaFamily(),
  });
  return list;
}

}  // namespace

const Family* FindFamily(const std::string& name) { return Families().Find(name); }

absl::Status CheckFamily(const proto::ModelConfig& config, absl::string_view source) {
  if (FindFamily(config.family()) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": model.family: found \"", config.family(), "\"; accepts ",
                                                 absl::StrJoin(Families().Names(), ", ")));
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
