#include "model/train/update_rule.h"

#include <utility>

#include "model/kind_list.h"
#include "model/train/rules/rules.h"

namespace isthmus {
namespace {

KindList<UpdateRule>& UpdateRules() {
  static auto* rules = new KindList<UpdateRule>({AdamWRule(), AmsgradRule(), SgdRule(), MuonRule()});
  return *rules;
}

}  // namespace

const UpdateRule* FindUpdateRule(const std::string& name) { return UpdateRules().Find(name); }

std::vector<std::string> UpdateRuleNames() { return UpdateRules().Names(); }

void RegisterUpdateRule(UpdateRule rule) { UpdateRules().Add(std::move(rule)); }

}  // namespace isthmus
