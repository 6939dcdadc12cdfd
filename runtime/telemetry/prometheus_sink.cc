#include "runtime/telemetry/prometheus_sink.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <prometheus/exposer.h>

#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/caught.h"
#include "runtime/monotonic.h"

namespace isthmus {
namespace {

// CivetWeb's names and values (civetweb, docs/UserManual.md).
std::vector<std::string> ServerOptions(const std::string& endpoint) {
  return {"listening_ports",   endpoint, "num_threads",      "2",    "request_timeout_ms", "2000",
          "enable_keep_alive", "no",     "max_request_size", "4096", "connection_queue",   "16",
          "linger_timeout_ms", "0",      "listen_backlog",   "64"};
}

}  // namespace

PrometheusSink::PrometheusSink(const std::string& address, int port, std::shared_ptr<Notes> notes)
    : endpoint_(absl::StrCat(absl::StrContains(address, ':') ? absl::StrCat("[", address, "]") : address, ":", port)),
      notes_(std::move(notes)),
      metrics_(std::make_shared<PrometheusMetrics>()) {}

PrometheusSink::~PrometheusSink() = default;

absl::Status PrometheusSink::Write(const proto::TelemetryRecord& record) {
  metrics_->Update(record);
  if (exposer_ != nullptr) return absl::OkStatus();
  if (MonotonicNow() < next_try_) return opened_;
  next_try_ = MonotonicNow() + absl::Seconds(1);
  opened_ = Caught([this] { return Open(); });
  return opened_;
}

absl::Status PrometheusSink::Open() {
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(ServerOptions(endpoint_));
    exposer->RegisterCollectable(metrics_);
    exposer_ = std::move(exposer);
  } catch (const std::system_error&) {
    throw;
  } catch (const std::runtime_error&) {
    // CivetWeb's exception does not say why. If no thread can be started, this says so by an exception of its own.
    std::thread([] {}).join();
    return absl::UnavailableError(
        absl::StrCat(endpoint_, ": can't listen there, is the port taken? (telemetry.prometheus); trying on"));
  }
  notes_->Add(absl::StrCat("metrics for Prometheus at http://", endpoint_, "/metrics"));
  return absl::OkStatus();
}

}  // namespace isthmus
