#include "launch/watch/start_mark.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <nlohmann/json.hpp>
#include <random>

#include "launch/watch/checked_page.h"
#include "parallel/host_bytes.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

std::string PathOf(const std::string& folder) { return folder + "/log/start"; }

std::string TextOf(const StartMark& mark) {
  const nlohmann::ordered_json json = {{"nonce", mark.nonce},
                                       {"number", mark.number},
                                       {"host", mark.host},
                                       {"process", mark.process},
                                       {"since", mark.since}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

absl::StatusOr<StartMark> Parse(const std::string& text, const std::string& source) {
  try {
    const auto json = nlohmann::json::parse(text);
    StartMark mark{.nonce = json.at("nonce"),
                   .number = json.at("number"),
                   .host = json.at("host"),
                   .process = json.at("process"),
                   .since = json.at("since")};
    if (json["number"].is_number_integer() && mark.number >= 0 && mark.number <= kMostStartNumber) return mark;
    return absl::DataLossError(absl::StrCat(source, ": is not the mark of a start: number: ", json["number"].dump(),
                                            "; accepted: 0 to ", kMostStartNumber));
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat(source, ": is not the mark of a start: ", error.what()));
  }
}

}  // namespace

std::string StartMark::Describe() const {
  return absl::StrCat("host ", host, ", process ", process, ", since ", since);
}

StartMark MarkOfThisProcess() {
  std::random_device random;
  const absl::Time now = absl::Now();
  return {.nonce = absl::StrFormat("%08x%08x", random(), random()),
          // The clock only matters if a network file system still shows an older mark than the latest one.
          .number = std::clamp<int64_t>(absl::ToUnixMicros(now), 0, kMostStartNumber),
          .host = HostName(),
          .process = getpid(),
          .since = absl::FormatTime("%Y-%m-%dT%H:%M:%S%Ez", now, absl::LocalTimeZone())};
}

StartMark NewStartMark(const std::string& folder) {
  StartMark mark = MarkOfThisProcess();
  if (const auto latest = ReadStartMark(folder); latest.ok()) {
    mark.number = std::min(std::max(mark.number, latest->number + 1), kMostStartNumber);
  }
  return mark;
}

absl::Status WriteStartMark(const std::string& folder, const StartMark& mark) {
  return WriteCheckedPage(PathOf(folder), TextOf(mark));
}

absl::StatusOr<StartMark> ReadStartMark(const std::string& folder) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, ReadCheckedPage(PathOf(folder)));
  return Parse(text, PathOf(folder));
}

absl::Status ShareStartMark(Communicator& world, StartMark& mark) {
  std::string text = TextOf(mark);
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, text, 0));
  ISTHMUS_ASSIGN_OR_RETURN(mark, Parse(text, "rank 0"));
  return absl::OkStatus();
}

absl::Status FindStartMark(const std::string& folder, const StartMark& mark, int rank, int tries,
                           absl::Duration pause) {
  absl::StatusOr<StartMark> found = ReadStartMark(folder);
  for (int more = tries - 1; more > 0 && !(found.ok() && found->nonce == mark.nonce); --more, pause *= 2) {
    absl::SleepFor(pause);
    found = ReadStartMark(folder);
  }
  if (found.ok() && found->nonce == mark.nonce) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "rank ", rank, " (host ", HostName(), ") sees another folder at ", folder, " than rank 0 (host ", mark.host,
      "): ",
      found.ok() ? absl::StrCat("its log/start is of the start of ", found->Describe()) : found.status().message(),
      "; put the run folder on a file system that all ranks share"));
}

bool IsLater(const StartMark& found, const StartMark& mine) {
  return found.nonce != mine.nonce && found.number > mine.number;
}

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace isthmus
