#include "parallel/mesh.h"

#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "parallel/host_bytes.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<bool> EveryRankHasItsOwnGpu(Communicator& world, const Stream& stream) {
  auto device = StreamDevice(stream);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, device.status()));
  std::array<char, 256> node{};
  gethostname(node.data(), node.size() - 1);
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> gpus,
                           AllGatherBytes(world, absl::StrCat(node.data(), " ", device->bus_id)));
  return std::set<std::string>(gpus.begin(), gpus.end()).size() == gpus.size();
}

}  // namespace

absl::StatusOr<Mesh> Mesh::Create(Communicator& world, int tensor_ranks, int data_ranks, const Stream& stream,
                                  absl::Duration setup_deadline) {
  const int size = world.size();
  if (tensor_ranks < 1 || data_ranks < 0 || (data_ranks == 0 && size % tensor_ranks != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("mesh.tensor (", tensor_ranks, ") does not fit the ", size,
                                                   " ranks that were started; use a divisor of ", size,
                                                   " or start a multiple of ", tensor_ranks));
  }
  if (data_ranks == 0) data_ranks = size / tensor_ranks;
  if (int64_t{tensor_ranks} * data_ranks != size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mesh.tensor (", tensor_ranks, ") × mesh.data (", data_ranks, ") = ", int64_t{tensor_ranks} * data_ranks,
        " ranks, but ", size, " were started; start ", int64_t{tensor_ranks} * data_ranks, " or set mesh.data"));
  }
  Mesh mesh;
  mesh.world_ = &world;
  const int tensor_rank = world.rank() % tensor_ranks, data_rank = world.rank() / tensor_ranks;
  ISTHMUS_ASSIGN_OR_RETURN(mesh.tensor_, world.Split(data_rank, tensor_rank, "tensor"));
  ISTHMUS_ASSIGN_OR_RETURN(mesh.data_, world.Split(tensor_rank, data_rank, "data"));
  if (stream.device() == Device::kCuda) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool own_gpus, EveryRankHasItsOwnGpu(world, stream));
    for (auto* group : {&mesh.tensor_, &mesh.data_}) {
      if (HasNccl() && own_gpus && (*group)->size() > 1) {
        ISTHMUS_ASSIGN_OR_RETURN(*group, MakeNcclCommunicator(std::move(*group), stream, setup_deadline));
      } else {
        *group = MakeStagedCommunicator(std::move(*group), stream);
      }
    }
  }
  mesh.set_deadline(setup_deadline);
  return mesh;
}

Mesh Mesh::Of(Communicator& world, std::unique_ptr<Communicator> tensor, std::unique_ptr<Communicator> data) {
  Mesh mesh;
  mesh.world_ = &world;
  mesh.tensor_ = std::move(tensor);
  mesh.data_ = std::move(data);
  return mesh;
}

void Mesh::set_deadline(absl::Duration deadline) {
  deadline_ = deadline;
  world_->set_deadline(deadline);
  tensor_->set_deadline(deadline);
  data_->set_deadline(deadline);
}

}  // namespace isthmus
