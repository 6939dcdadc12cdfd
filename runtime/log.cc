#include "runtime/log.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <fstream>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const std::string& folder, int rank) {
  const std::string logs = folder + "/log";
  ISTHMUS_RETURN_IF_ERROR(MakeFolder(logs));
  const std::string path = absl::StrFormat("%s/rank-%04d.log", logs, rank);
  errno = 0;
  // The sink throws when it can't open its file: found out here first, with the reason.
  if (!std::ofstream(path, std::ios::app)) return FileError(path, "can't open the log", errno);
  auto dropped = std::make_shared<std::atomic<int64_t>>(0);
  std::shared_ptr<spdlog::logger> logger;
  try {
    logger = std::make_shared<spdlog::logger>("isthmus", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
  } catch (const spdlog::spdlog_ex& error) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": can't open the log: ", error.what()));
  }
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->flush_on(spdlog::level::info);
  logger->set_error_handler([dropped](const std::string&) { ++*dropped; });
  return absl::WrapUnique(new Log(std::move(logger), std::move(dropped), rank));
}

Log::Log(std::shared_ptr<spdlog::logger> logger, std::shared_ptr<std::atomic<int64_t>> dropped, int rank)
    : logger_(std::move(logger)), dropped_(std::move(dropped)), rank_(rank) {}
Log::~Log() = default;

void Log::Info(const std::string& message) { logger_->info("rank={} step={} {}", rank_, step_.load(), message); }
void Log::Warning(const std::string& message) { logger_->warn("rank={} step={} {}", rank_, step_.load(), message); }
void Log::Error(const std::string& message) { logger_->error("rank={} step={} {}", rank_, step_.load(), message); }

}  // namespace isthmus
