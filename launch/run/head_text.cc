#include "launch/run/head_text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "proto/telemetry.pb.h"

namespace isthmus {

std::string HeadText(const HeadFigures& head) {
  const proto::HeadRecord& scalars = head.scalars;
  if (!head.not_measured.empty()) {
    return absl::StrCat("gradient lost in the LM head: not measured, ", head.not_measured, "\n");
  }
  std::string text = absl::StrFormat(
      "gradient lost in the LM head: %.2f %% of its norm (a head in random position: %.2f %%; alignment gain %.2f)\n",
      100 * scalars.lost_norm_ratio(), 100 * scalars.isotropic_lost_norm_ratio(), scalars.alignment_gain());
  if (head.shards.size() < 2) return text;
  const auto percent = [](double energy, double norm) { return norm > 0 ? 100 * energy / (norm * norm) : 0; };
  text += "energy of the gradient by shard, before -> after the head:";
  for (size_t i = 0; i < head.shards.size(); ++i) {
    absl::StrAppendFormat(&text, "%s %d: %.1f -> %.1f %%", i == 0 ? "" : ",", i,
                          percent(head.shards[i].logit_gradient_energy, scalars.logit_gradient_norm()),
                          percent(head.shards[i].retained_energy, scalars.retained_gradient_norm()));
  }
  return text + "\n";
}

}  // namespace isthmus
