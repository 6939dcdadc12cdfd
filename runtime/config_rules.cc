#include "runtime/config_rules.h"

#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

void ConfigRules::Within(int64_t least, int64_t most, absl::string_view field, int64_t found) {
  Require(found >= least && found <= most, field, found, absl::StrCat("accepts ", least, " to ", most));
}

// Comparisons with NaN are false.
void ConfigRules::Between(double least, double most, absl::string_view field, double found) {
  Require(std::isfinite(found) && found >= least && found <= most, field, found,
          absl::StrCat("needs a finite number from ", least, most < kLarge ? absl::StrCat(" to ", most) : " on"));
}

void ConfigRules::Positive(absl::string_view field, double found) {
  Require(std::isfinite(found) && found > 0, field, found, "needs a finite number above 0");
}

void ConfigRules::Product(const std::vector<ConfigFactor>& factors, int64_t most, absl::string_view what) {
  int64_t product = 1;
  bool kept = true;
  std::string others;
  for (const ConfigFactor& factor : factors) {
    kept = kept && !__builtin_mul_overflow(product, factor.value, &product) && product <= most;
    if (&factor != &factors.front())
      absl::StrAppend(&others, others.empty() ? " " : " × ", factor.field, " (", factor.value, ")");
  }
  Require(kept, factors.front().field, factors.front().value,
          absl::StrCat("makes with", others, " more than ", most, " ", what, "; lower one of them"));
}

void ConfigRules::DivisibleByTensor(absl::string_view field, int64_t found, int64_t tensor) {
  if (found % tensor == 0) return;
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= std::min<int64_t>(found, 1024); ++d) {
    if (found % d == 0) divisors.push_back(d);
  }
  Require(false, field, found,
          absl::StrCat("is not divisible by mesh.tensor (", tensor, "); use a mesh.tensor of ",
                       absl::StrJoin(divisors, ", ")));
}

}  // namespace isthmus
