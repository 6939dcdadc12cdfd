// The stand-in for a build without NCCL.
#include "parallel/communicator.h"
#include "parallel/library_versions.h"

namespace isthmus {

bool HasNccl() { return false; }

std::string NcclVersion() { return ""; }

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::unique_ptr<Communicator>, const Stream&,
                                                                   absl::Duration) {
  return absl::UnimplementedError("this program was built without NCCL");
}

}  // namespace isthmus
