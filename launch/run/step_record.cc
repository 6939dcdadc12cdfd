#include "launch/run/step_record.h"

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "runtime/status.h"

namespace isthmus {
void CountStep(double seconds, proto::Histogram& histogram) {
  static constexpr double kBounds[] = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000};
  if (histogram.counts().empty()) {
    histogram.mutable_bounds()->Add(std::begin(kBounds), std::end(kBounds));
    histogram.mutable_counts()->Resize(static_cast<int>(std::size(kBounds)) + 1, 0);
  }
  const auto bucket = std::lower_bound(std::begin(kBounds), std::end(kBounds), seconds) - std::begin(kBounds);
  ++*histogram.mutable_counts()->Mutable(static_cast<int>(bucket));
  histogram.set_sum(histogram.sum() + seconds);
}

void FillGroupRecords(const std::vector<ParameterGroupFigures>& groups, double learning_rate,
                      proto::TelemetryRecord& record) {
  for (const ParameterGroupFigures& group : groups) {
    auto& filled = *record.add_groups();
    filled.set_group(group.name);
    filled.set_learning_rate(learning_rate * group.learning_rate_factor);
    filled.set_parameters(group.parameters);
  }
}

void FillUpdateRecords(const LossDecreases& decreases, proto::TelemetryRecord& record) {
  const std::pair<const char*, double> parts[] = {
      {"embedding", decreases.embedding}, {"blocks", decreases.blocks}, {"head", decreases.head}};
  for (const auto& [name, decrease] : parts) {
    auto& update = *record.add_updates();
    update.set_part(name);
    update.set_first_order_decrease(decrease);
  }
  for (size_t i = 0; i < decreases.groups.size(); ++i) {
    record.mutable_groups(static_cast<int>(i))->set_first_order_decrease(decreases.groups[i]);
  }
}

bool FillUtilisation(double tokens_per_second, const proto::RunRecord& facts, proto::TrainRecord& record) {
  if (!facts.has_peak_flops()) return true;
  const double causal = tokens_per_second * facts.causal_flops_per_token() / facts.peak_flops();
  if (causal > 1) return false;
  record.set_causal_utilisation_ratio(causal);
  record.set_full_utilisation_ratio(tokens_per_second * facts.full_flops_per_token() / facts.peak_flops());
  return true;
}

double UnixSeconds() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

absl::Status FillTimeRecord(const StepSeconds& seconds, Communicator& world, proto::TimeRecord& record) {
  // Maximum, minimum and the slowest rank travel in one all-reduce: whole microseconds and the rank share a double's 53
  // bits.
  constexpr double kRanks = 1 << 20;
  std::array<double, 3 * kStepPhases> reduced{};
  for (size_t i = 0; i < kStepPhases; ++i) {
    const double own = seconds[kAllStepPhases[i]];
    reduced[i] = own;
    reduced[kStepPhases + i] = -own;
    reduced[2 * kStepPhases + i] = std::floor(std::min(own, 8e3) * 1e6) * kRanks + world.rank();
  }
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(reduced), Reduction::kMax));
  for (size_t i = 0; i < kStepPhases; ++i) {
    // Times of the slowest rank have a field each: data_seconds, forward_seconds, …
    const auto* field = record.GetDescriptor()->FindFieldByName(absl::StrCat(kStepPhaseNames[i], "_seconds"));
    record.GetReflection()->SetDouble(&record, field, reduced[i]);
    auto& phase = *record.add_phases();
    phase.set_phase(kStepPhaseNames[i]);
    phase.set_minimum_seconds(-reduced[kStepPhases + i]);
    phase.set_maximum_seconds(reduced[i]);
    phase.set_slowest_rank(static_cast<int>(std::fmod(reduced[2 * kStepPhases + i], kRanks)));
  }
  return absl::OkStatus();
}

void FillRankRecord(const StepSeconds& seconds, const Mesh& mesh, int rank, proto::RankRecord& record) {
  record.set_rank(rank);
  record.set_tp_rank(mesh.tensor_rank());
  record.set_dp_rank(mesh.data_rank());
  record.set_timestamp_seconds(UnixSeconds());
  for (const StepPhase each : kAllStepPhases) {
    auto& phase = *record.add_phases();
    phase.set_phase(PhaseName(each));
    phase.set_seconds(seconds[each]);
  }
}

}  // namespace isthmus
