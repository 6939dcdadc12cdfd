#include "launch/run/step_record.h"

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "runtime/status.h"

namespace isthmus {
namespace {

// In the order of the fields of proto::TimeRecord.
std::array<std::pair<const char*, double>, 7> PhaseSeconds(const StepSeconds& seconds, double data_seconds) {
  return {{{"data", data_seconds},
           {"forward", seconds.forward},
           {"head", seconds.head},
           {"backward", seconds.backward},
           {"reduce", seconds.reduce},
           {"optimizer", seconds.optimizer},
           {"telemetry", seconds.telemetry}}};
}

}  // namespace

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

bool FillUtilisation(double tokens_per_second, const proto::RunRecord& facts, proto::TrainRecord& record) {
  if (!facts.has_peak_flops()) return true;
  const double causal = tokens_per_second * facts.causal_flops_per_token() / facts.peak_flops();
  if (causal > 1) return false;
  record.set_causal_utilisation_ratio(causal);
  record.set_full_utilisation_ratio(tokens_per_second * facts.full_flops_per_token() / facts.peak_flops());
  return true;
}

double UnixSeconds() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

absl::Status FillTimeRecord(const StepSeconds& seconds, double data_seconds, Communicator& world,
                            proto::TimeRecord& record) {
  const auto phases = PhaseSeconds(seconds, data_seconds);
  constexpr size_t kPhases = std::tuple_size_v<decltype(phases)>;
  // Maximum, minimum and who was slowest in one all-reduce: whole microseconds and the rank share a double's 53 bits.
  constexpr double kRanks = 1 << 20;
  std::array<double, 3 * kPhases> reduced{};
  for (size_t i = 0; i < kPhases; ++i) {
    reduced[i] = phases[i].second;
    reduced[kPhases + i] = -phases[i].second;
    reduced[2 * kPhases + i] = std::floor(std::min(phases[i].second, 8e3) * 1e6) * kRanks + world.rank();
  }
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(reduced), Reduction::kMax));
  record.set_data_seconds(reduced[0]);
  record.set_forward_seconds(reduced[1]);
  record.set_head_seconds(reduced[2]);
  record.set_backward_seconds(reduced[3]);
  record.set_reduce_seconds(reduced[4]);
  record.set_optimizer_seconds(reduced[5]);
  record.set_telemetry_seconds(reduced[6]);
  for (size_t i = 0; i < kPhases; ++i) {
    auto& phase = *record.add_phases();
    phase.set_phase(phases[i].first);
    phase.set_minimum_seconds(-reduced[kPhases + i]);
    phase.set_maximum_seconds(reduced[i]);
    phase.set_slowest_rank(static_cast<int>(std::fmod(reduced[2 * kPhases + i], kRanks)));
  }
  return absl::OkStatus();
}

void FillRankRecord(const StepSeconds& seconds, double data_seconds, const Mesh& mesh, int rank,
                    proto::RankRecord& record) {
  record.set_rank(rank);
  record.set_tp_rank(mesh.tensor_rank());
  record.set_dp_rank(mesh.data_rank());
  record.set_timestamp_seconds(UnixSeconds());
  for (const auto& [name, phase_seconds] : PhaseSeconds(seconds, data_seconds)) {
    auto& phase = *record.add_phases();
    phase.set_phase(name);
    phase.set_seconds(phase_seconds);
  }
}

}  // namespace isthmus
