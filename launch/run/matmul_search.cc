#include "launch/run/matmul_search.h"

#include <absl/strings/str_cat.h>

#include <utility>
#include <vector>

#include "ops/cuda/matmul_algorithms.h"
#include "parallel/host_bytes.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// This is the largest file; one matrix product takes some 400 bytes.
constexpr int64_t kMostBytes = int64_t{16} << 20;

// Returns the content of the file; nothing if it is missing or of no use.
MatmulAlgorithms ReadKnown(const std::string& path, Log& log) {
  const auto text = ReadFile(path, kMostBytes);
  if (absl::IsNotFound(text.status())) return {};
  auto known = text.ok() ? ParseMatmulAlgorithms(*text) : text.status();
  if (known.ok()) return *std::move(known);
  log.Warning(absl::StrCat(path, " is not used: ", known.status().message()));
  return {};
}

}  // namespace

absl::Status ChooseMatmulAlgorithms(const std::string& folder, Communicator& world, Stream& stream, Log& log,
                                    const std::function<absl::Status()>& rehearse) {
  if (stream.device() == Device::kCpu) return absl::OkStatus();
  const std::string path = folder + "/matmul-algorithms.json";
  std::string known_text = world.rank() == 0 ? MatmulAlgorithmsText(ReadKnown(path, log)) : "";
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, known_text, 0));
  ISTHMUS_ASSIGN_OR_RETURN(const MatmulAlgorithms known, ParseMatmulAlgorithms(known_text));

  SetMatmulAlgorithms(known, /*search=*/true, stream);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, rehearse()));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> found,
                           AllGatherBytes(world, MatmulAlgorithmsText(MatmulAlgorithmsOf(stream))));
  MatmulAlgorithms all = known;
  for (const std::string& text : found) {
    ISTHMUS_ASSIGN_OR_RETURN(MatmulAlgorithms ranks, ParseMatmulAlgorithms(text));
    all.merge(std::move(ranks));  // keeps what is there
  }
  const size_t measured = all.size() - known.size();
  log.Info(absl::StrCat("matrix products: ", known.size(), " algorithms known from ", path, ", ", measured,
                        " chosen by measurement"));
  if (world.rank() == 0 && measured > 0) {
    const absl::Status written = WriteDurably(path, MatmulAlgorithmsText(all));
    if (!written.ok()) log.Warning(absl::StrCat("the next start measures anew: ", written.message()));
  }
  SetMatmulAlgorithms(std::move(all), /*search=*/false, stream);
  return absl::OkStatus();
}

}  // namespace isthmus
