// Collectives among the ranks of a group: `self` (one rank), `mpi`, and on GPUs `staged` and `nccl`. No other
// folder names MPI or NCCL. Tensors lie in host memory (self, mpi) or on one GPU (staged, nccl).
//
// Every operation is asynchronous: it is started in the same order on all ranks of the group and completed with Wait.
// The buffers must stay alive and untouched until then. A wait that outlasts the deadline returns DeadlineExceeded
// naming the operation, the group, this rank and the sequence number; the communicator is then unusable. Results are
// deterministic: the same mesh gives the same bits, and every rank of the group receives the same bits.
//
// Tensors must be contiguous; fp32, fp64, bf16 (sums of two bf16 values are formed in fp32 and rounded), int32, uint8.
#ifndef ISTHMUS_PARALLEL_COMMUNICATOR_H_
#define ISTHMUS_PARALLEL_COMMUNICATOR_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>

#include "parallel/collective_ring.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

enum class Reduction { kSum, kMax, kMin };

// Names one started operation. Default-constructed: none, Wait on it does nothing.
struct Ticket {
  int64_t sequence = -1;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The group's name for messages: "world", "tensor", "data".
  virtual const std::string& name() const = 0;

  // In place over all ranks.
  virtual absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) = 0;
  // input: size() blocks of equal size, output: block rank() of their sum. output may be that block of input itself.
  virtual absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) = 0;
  // output: size() blocks, block i from rank i; input: this rank's block, may be that block of output itself.
  virtual absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) = 0;
  virtual absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) = 0;

  // Completes an operation.
  virtual absl::Status Wait(Ticket ticket) = 0;
  // Lets outstanding operations progress, without blocking. Called between layers, so that a gradient reduction
  // advances while backward runs.
  virtual absl::Status Progress() = 0;

  // Point to point; blocking, same deadline.
  virtual absl::Status Send(const Tensor& data, int destination) = 0;
  virtual absl::Status Receive(const Tensor& data, int source) = 0;
  virtual absl::Status Barrier() = 0;

  virtual void set_deadline(absl::Duration deadline) = 0;

  // Ranks with the same color form a group, ordered by `key`. Collective over this group.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) = 0;

  // Whether its collectives can be captured (runtime/captured_work.h): those of NCCL. A group of one has none that do
  // anything. Captured on one rank they must be captured on all, and be started on all in the same order.
  virtual bool capturable() const { return size() == 1; }
  // After captured work with collectives of this group has been started: its deadline holds for them too.
  virtual absl::Status Replayed() { return absl::OkStatus(); }

  // Makes memory that many collectives use known to the network and the other ranks once (NCCL: registered buffers),
  // for as long as the result lives, which must be shorter than the memory's and the communicator's life. Without
  // effect on the results' bits from one run to the next. Null where there is nothing to gain or the library refuses.
  // Collective; the tensor lies at the same offset of the same layout on all ranks.
  virtual std::shared_ptr<void> Register(const Tensor&) { return nullptr; }

  // The same group for tensors in host memory: itself where its tensors are.
  virtual Communicator& host() { return *this; }

  // Where this group's operations are recorded, and as which group; nowhere in a group of one.
  struct Record {
    std::shared_ptr<CollectiveRing> ring;
    int group = 0;
  };
  virtual Record record() const { return {}; }

  // Ends every process of the job at once with this exit status. Does not return.
  [[noreturn]] virtual void Abort(int exit_status) = 0;

  // The same, completed at once.
  absl::Status AllReduce(const Tensor& data, Reduction reduction = Reduction::kSum);
  absl::Status ReduceScatter(const Tensor& input, const Tensor& output);
  absl::Status AllGather(const Tensor& input, const Tensor& output);
  absl::Status Broadcast(const Tensor& data, int root);

  // Of host numbers, whatever the device.
  absl::Status AllReduceNumbers(absl::Span<double> values, Reduction reduction = Reduction::kSum);
};

// The group of `host` for tensors on the stream's GPU, staged through host memory: several ranks can share one GPU, and
// a GPU without NCCL can work. An operation has finished when its start returns.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host, const Stream& stream);

// Whether NCCL is part of the program.
bool HasNccl();

// The group of `host` by NCCL, for tensors on the stream's GPU, which no other rank of the group may use. Collectives
// run beside the stream's operators; Wait makes the stream wait, not the host. An operation that outlasts the deadline
// is aborted, so that Synchronize ends, and every later call fails. `deadline` holds for the set-up, and until
// set_deadline. Collective over `host`. Errors: Unimplemented in a build without NCCL.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                                   const Stream& stream, absl::Duration deadline);

// A group of one: operations copy what there is to copy and complete at once.
std::unique_ptr<Communicator> MakeSelfCommunicator(std::string name = "world");

// The MPI library for the lifetime of the object: initialised with MPI_THREAD_FUNNELED or better, finalised at the end.
// A process that was not started by mpirun or srun is a world of one.
class MpiRuntime {
 public:
  // Errors: FailedPrecondition when Slurm or Open MPI says more than one task was started but MPI says one (`srun`
  // without `--mpi=pmix`), with the remedy.
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Initialize();
  virtual ~MpiRuntime() = default;
  // All ranks. Its deadline is that of setting up, half an hour, until it is set.
  virtual std::unique_ptr<Communicator> World() = 0;
  // What World() and all groups of it write to.
  virtual const std::shared_ptr<CollectiveRing>& ring() const = 0;
  // Ranks on this node, and this rank's place among them: how many cores it may use.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
};

// Makes a local failure everybody's: returns OK when `local` is OK on every rank, else, on every rank, the status of
// the lowest rank that failed, its message prefixed with "rank i: " when size() > 1 and not all ranks failed alike.
// Collective; called at the end of every phase in which a rank can fail alone.
absl::Status AgreeOnStatus(Communicator& world, const absl::Status& local);

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_COMMUNICATOR_H_
