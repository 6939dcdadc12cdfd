#include "launch/run/run_sinks.h"

#include <utility>

#include "runtime/status.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/prometheus_sink.h"
#include "runtime/telemetry/tensorboard_sink.h"
#include "runtime/telemetry/textfile_sink.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<Sinks>> OpenSinks(const proto::RunConfig& config, int rank, int local_rank,
                                                 int64_t first_step, bool continued) {
  const auto& telemetry = config.telemetry();
  const auto& http = telemetry.prometheus();
  auto sinks = std::make_unique<Sinks>();
  if (rank == 0) {
    const std::string metrics = config.folder() + "/metrics.jsonl";
    ISTHMUS_ASSIGN_OR_RETURN(auto jsonl, continued ? JsonlSink::Continue(metrics, first_step - 1, *sinks->notes())
                                                   : JsonlSink::Create(metrics));
    sinks->Add(std::move(jsonl), &proto::SinksRecord::set_jsonl_dropped_total);
    if (telemetry.tensorboard()) {
      ISTHMUS_ASSIGN_OR_RETURN(auto tensorboard, TensorboardSink::Create(config.folder(), first_step));
      sinks->Add(std::move(tensorboard), &proto::SinksRecord::set_tensorboard_dropped_total);
    }
    if (telemetry.textfile()) {
      sinks->Add(std::make_unique<TextfileSink>(config.folder() + "/metrics.prom"),
                 &proto::SinksRecord::set_textfile_dropped_total);
    }
  }
  if (http.port() > 0 && (rank == 0 || http.every_rank())) {
    sinks->Add(std::make_unique<PrometheusSink>(http.address(), http.port() + (http.every_rank() ? local_rank : 0),
                                                sinks->notes()),
               &proto::SinksRecord::set_prometheus_dropped_total);
  }
  return sinks;
}

bool EveryRankIsShown(const proto::RunConfig& config) {
  return config.telemetry().prometheus().port() > 0 && config.telemetry().prometheus().every_rank();
}

}  // namespace isthmus
