// The mesh of ranks: world = data × tensor. Tensor ranks are adjacent, hence within a node (DESIGN 3.4).
#ifndef ISTHMUS_PARALLEL_MESH_H_
#define ISTHMUS_PARALLEL_MESH_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>

#include "parallel/communicator.h"

namespace isthmus {

class Mesh {
 public:
  // With data_ranks 0 there are world size / tensor_ranks of them. Errors: InvalidArgument when the world is not
  // data_ranks × tensor_ranks. Collective over `world`, which must outlive the mesh. Tensors that go through tensor()
  // and data() lie on the stream's device, those that go through world() in host memory. On GPUs the groups use NCCL if
  // every rank has a GPU of its own, else host memory. `setup_deadline` is for connecting the groups, and is their
  // deadline until set_deadline.
  static absl::StatusOr<Mesh> Create(Communicator& world, int tensor_ranks, int data_ranks,
                                     const Stream& stream = Stream(),
                                     absl::Duration setup_deadline = absl::Minutes(30));

  // Makes a mesh from groups that exist. `world` must outlive it.
  static Mesh Of(Communicator& world, std::unique_ptr<Communicator> tensor, std::unique_ptr<Communicator> data);

  Communicator& world() const { return *world_; }
  Communicator& tensor() const { return *tensor_; }
  Communicator& data() const { return *data_; }
  int tensor_rank() const { return tensor_->rank(); }
  int tensor_ranks() const { return tensor_->size(); }
  int data_rank() const { return data_->rank(); }
  int data_ranks() const { return data_->size(); }

  // Sets the deadline of the collectives of all three groups that are started from now on.
  void set_deadline(absl::Duration deadline);
  absl::Duration deadline() const { return deadline_; }

 private:
  Communicator* world_ = nullptr;
  std::unique_ptr<Communicator> tensor_;
  std::unique_ptr<Communicator> data_;
  absl::Duration deadline_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_MESH_H_
