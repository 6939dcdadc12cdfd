#include "parallel/mesh.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<Mesh> Mesh::Create(Communicator& world, int tensor_ranks, int data_ranks, const Stream& stream) {
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
    mesh.tensor_ = MakeStagedCommunicator(std::move(mesh.tensor_), stream);
    mesh.data_ = MakeStagedCommunicator(std::move(mesh.data_), stream);
  }
  return mesh;
}

void Mesh::set_deadline(absl::Duration deadline) {
  world_->set_deadline(deadline);
  tensor_->set_deadline(deadline);
  data_->set_deadline(deadline);
}

}  // namespace isthmus
