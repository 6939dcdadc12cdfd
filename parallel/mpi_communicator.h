// The MPI implementation of Communicator. Its collectives on host memory do not block, and are completed by polling
// with a deadline.
#ifndef ISTHMUS_PARALLEL_MPI_COMMUNICATOR_H_
#define ISTHMUS_PARALLEL_MPI_COMMUNICATOR_H_

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/give_way.h"

namespace isthmus {

class MpiCommunicator : public Communicator {
 public:
  // Takes over `comm` and frees it at the end; world_rank is for messages. Operations are recorded in `ring`.
  MpiCommunicator(MPI_Comm comm, int world_rank, std::string name, std::shared_ptr<CollectiveRing> ring);
  ~MpiCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) override;
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override;
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override;
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status Progress() override;
  absl::Status Send(const Tensor& data, int destination) override;
  absl::Status Receive(const Tensor& data, int source) override;
  absl::Status Barrier() override;
  void set_deadline(absl::Duration deadline) override { deadline_ = deadline; }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override;
  Record record() const override { return {ring_, group_}; }
  void Abort(int exit_status) override;

 private:
  // One started operation. Slots are used again, so that steady state allocates nothing.
  struct Pending {
    int64_t sequence = -1;
    int64_t order = -1;   // among the group's collectives; all ranks count alike
    int peer = -1;        // of a message
    int64_t number = -1;  // in the ring
    const char* operation = "";
    Tensor data;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  // Checks what all operations need and returns a slot to start the request in.
  absl::StatusOr<Pending*> Begin(const char* operation, const Tensor& data, int peer = -1);
  absl::StatusOr<Ticket> Started(Pending* pending, int mpi_error);
  absl::Status Poll(Pending& pending);
  void Ended(Pending& pending);
  absl::Status Check(const char* operation, int mpi_error);
  std::string Describe(const Pending& pending) const;
  // The operation that sums two arrays of bf16.
  absl::StatusOr<MPI_Op> OperationOf(DType dtype, Reduction reduction);

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  int world_rank_;
  std::string name_;
  std::shared_ptr<CollectiveRing> ring_;
  int group_ = 0;  // in the ring
  absl::Duration deadline_ = absl::InfiniteDuration();
  int64_t next_sequence_ = 0;
  int64_t next_order_ = 0;
  std::vector<std::unique_ptr<Pending>> pending_;
  MPI_Op bf16_sum_ = MPI_OP_NULL;
  absl::Status failure_;
  GiveWay give_way_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_MPI_COMMUNICATOR_H_
