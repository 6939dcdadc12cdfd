#include "runtime/log.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <mutex>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kPattern[] = "%Y-%m-%dT%H:%M:%S.%e%z %l %v";

std::string Formatted(spdlog::formatter& formatter, const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t text;
  formatter.format(message, text);
  return {text.data(), text.size()};
}

class WriterSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit WriterSink(std::shared_ptr<AsyncWriter> writer) : writer_(std::move(writer)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override { writer_->Write(Formatted(*formatter_, message)); }
  void flush_() override {}

  const std::shared_ptr<AsyncWriter> writer_;
};

// Makes the line that stands in place of lost ones.
AsyncWriter::LostText LostLines(int rank) {
  return [rank, formatter = std::make_shared<spdlog::pattern_formatter>(kPattern)](int64_t lines) {
    const std::string text = absl::StrCat("rank=", rank, " ", lines, lines == 1 ? " line is" : " lines are",
                                          " lost here: the log could not be "
                                          "written in time");
    return Formatted(*formatter, spdlog::details::log_msg("isthmus", spdlog::level::warn, text));
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const std::string& folder, int rank) {
  const std::string logs = folder + "/log";
  ISTHMUS_RETURN_IF_ERROR(MakeFolder(logs));
  const std::string path = absl::StrFormat("%s/rank-%04d.log", logs, rank);
  // A named pipe without a reader is an error at once.
  const int descriptor = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (descriptor < 0) {
    return FileError(path, "can't open the log (accepts a file; rename what is there, or set `folder` to another one)",
                     errno);
  }
  auto writer = std::make_shared<AsyncWriter>(descriptor, AsyncWriter::Descriptor::kOwned, LostLines(rank));
  auto logger = std::make_shared<spdlog::logger>("isthmus", std::make_shared<WriterSink>(writer));
  logger->set_pattern(kPattern);
  // A line that can't even be formatted is left out.
  logger->set_error_handler([](const std::string&) {});
  return absl::WrapUnique(new Log(std::move(logger), std::move(writer), rank));
}

std::unique_ptr<Log> Log::Nowhere(int rank) {
  auto logger = std::make_shared<spdlog::logger>("isthmus", std::make_shared<spdlog::sinks::null_sink_mt>());
  return absl::WrapUnique(new Log(std::move(logger), nullptr, rank));
}

Log::Log(std::shared_ptr<spdlog::logger> logger, std::shared_ptr<AsyncWriter> writer, int rank)
    : logger_(std::move(logger)), writer_(std::move(writer)), rank_(rank) {}
Log::~Log() = default;

void Log::Info(const std::string& message) { logger_->info("rank={} step={} {}", rank_, step_.load(), message); }
void Log::Warning(const std::string& message) { logger_->warn("rank={} step={} {}", rank_, step_.load(), message); }
void Log::Error(const std::string& message) { logger_->error("rank={} step={} {}", rank_, step_.load(), message); }
void Log::Flush() {
  if (writer_ != nullptr) writer_->Flush(AsyncWriter::kFlushDeadline);
}

}  // namespace isthmus
