#include "launch/run/run_sinks.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "launch/run/late_sink.h"
#include "launch/run/run_data.h"
#include "runtime/status.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/kept_records.h"
#include "runtime/telemetry/prometheus_sink.h"
#include "runtime/telemetry/tensorboard_sink.h"
#include "runtime/telemetry/textfile_sink.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<Sinks>> OpenSinks(const proto::RunConfig& config, int rank, int local_rank,
                                                 const SinksOpening& opening) {
  const auto& telemetry = config.telemetry();
  const auto& http = telemetry.prometheus();
  auto sinks = std::make_unique<Sinks>();
  const auto add = [&](const char* name, const LateSink::Open& open, Sinks::SetDropped set_dropped) -> absl::Status {
    auto sink = open();
    const bool costs_records =
        opening.while_training || (opening.bears_full_disk && absl::IsResourceExhausted(sink.status()));
    if (!sink.ok() && !costs_records) return sink.status();
    sinks->Add(sink.ok() ? *std::move(sink) : std::make_unique<LateSink>(name, open), set_dropped);
    return absl::OkStatus();
  };
  if (rank == 0) {
    const StepsSoFar steps = {.last = opening.first_step - 1, .tokens_each = TokensPerStep(config)};
    const auto jsonl = [metrics = config.folder() + "/metrics.jsonl", steps, continued = opening.continued,
                        notes = sinks->notes()]() -> absl::StatusOr<std::unique_ptr<TelemetrySink>> {
      return continued ? JsonlSink::Continue(metrics, steps, *notes) : JsonlSink::Create(metrics);
    };
    ISTHMUS_RETURN_IF_ERROR(add("metrics.jsonl", jsonl, &proto::SinksRecord::set_jsonl_dropped_total));
    if (telemetry.tensorboard()) {
      const auto tensorboard = [folder = config.folder(), opening]() -> absl::StatusOr<std::unique_ptr<TelemetrySink>> {
        return TensorboardSink::Create(folder, opening.first_step);
      };
      ISTHMUS_RETURN_IF_ERROR(
          add("TensorBoard events", tensorboard, &proto::SinksRecord::set_tensorboard_dropped_total));
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

absl::Status CheckPort(const proto::RunConfig& config, int local_rank, absl::string_view source) {
  constexpr int kLargest = 65535;
  const int port = config.telemetry().prometheus().port();
  if (!EveryRankIsShown(config) || port + local_rank <= kLargest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": telemetry.prometheus.port: ", port, "; with every_rank the rank at place ", local_rank,
                   " of its node would need port ", port + local_rank, "; use at most ", kLargest - local_rank));
}

bool EveryRankIsShown(const proto::RunConfig& config) {
  return config.telemetry().prometheus().port() > 0 && config.telemetry().prometheus().every_rank();
}

}  // namespace isthmus
