#include "launch/step_record.h"

#include <cmath>

#include "runtime/status.h"

namespace isthmus {

void FillHeadRecord(const HeadMeasurement& head, proto::HeadRecord& record) {
  record.set_logit_gradient_norm(head.logit_gradient_norm);
  record.set_retained_gradient_norm(head.retained_gradient_norm);
  record.set_visible_cosine(head.visible_cosine);
  record.set_lost_norm_ratio(head.lost_norm_ratio);
  record.set_lost_energy_ratio(head.lost_energy_ratio);
  record.set_isotropic_lost_norm_ratio(head.isotropic_lost_norm_ratio);
  record.set_alignment_gain(head.alignment_gain);
  record.set_numerical_rank(head.head_numerical_rank);
  for (size_t i = 0; i < head.shards.size(); ++i) {
    const HeadMeasurement::Shard& shard = head.shards[i];
    auto& entry = *record.add_shards();
    entry.set_tp_rank(static_cast<int>(i));
    entry.set_logit_gradient_norm(std::sqrt(shard.logit_gradient_energy));
    entry.set_retained_gradient_norm(std::sqrt(shard.retained_energy));
    entry.set_lost_energy_ratio(shard.lost_energy_ratio());
    entry.set_lost_norm_ratio(std::sqrt(shard.lost_energy_ratio()));
  }
}

absl::Status FillTimeRecord(const StepSeconds& seconds, double data_seconds, Communicator& world,
                            proto::TimeRecord& record) {
  double slowest[] = {data_seconds,   seconds.forward,   seconds.head,     seconds.backward,
                      seconds.reduce, seconds.optimizer, seconds.telemetry};
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(slowest), Reduction::kMax));
  record.set_data_seconds(slowest[0]);
  record.set_forward_seconds(slowest[1]);
  record.set_head_seconds(slowest[2]);
  record.set_backward_seconds(slowest[3]);
  record.set_reduce_seconds(slowest[4]);
  record.set_optimizer_seconds(slowest[5]);
  record.set_telemetry_seconds(slowest[6]);
  return absl::OkStatus();
}

}  // namespace isthmus
