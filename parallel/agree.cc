#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status AgreeOnStatus(Communicator& world, const absl::Status& local) {
  if (world.size() == 1) return local;
  const double kNone = world.size();
  // One all-reduce finds, as extremes, the lowest rank that failed and the number of ranks that did.
  double lowest = local.ok() ? kNone : world.rank();
  double failures = local.ok() ? 0 : 1;
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&lowest, 1), Reduction::kMin));
  if (lowest == kNone) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&failures, 1)));

  const int root = static_cast<int>(lowest);
  std::string message(local.message());
  int32_t header[2] = {static_cast<int32_t>(local.code()), static_cast<int32_t>(message.size())};
  ISTHMUS_RETURN_IF_ERROR(world.Broadcast(Tensor(header, DType::kInt32, 1, 2), root));
  std::string agreed = message;
  agreed.resize(static_cast<size_t>(header[1]));
  if (header[1] > 0) {
    ISTHMUS_RETURN_IF_ERROR(world.Broadcast(Tensor(agreed.data(), DType::kUInt8, 1, header[1]), root));
  }
  double different = !local.ok() && agreed != message ? 1 : 0;
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&different, 1)));
  const bool everybody = failures == world.size() && different == 0;
  return absl::Status(static_cast<absl::StatusCode>(header[0]),
                      everybody ? agreed : absl::StrCat("rank ", root, ": ", agreed));
}

}  // namespace isthmus
