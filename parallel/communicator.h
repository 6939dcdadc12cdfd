// Collectives among the ranks of a group. The kinds are `self` (one rank), `mpi`, and on GPUs `staged` and `nccl`. No
// other folder names MPI or NCCL. Tensors lie in host memory (self, mpi) or on one GPU (staged, nccl).
//
// Every operation is asynchronous: it is started in the same order on all ranks of the group and completed with Wait.
// The buffers must stay alive and untouched until then. A wait that outlasts the deadline returns DeadlineExceeded. The
// error names the operation, the group, this rank and the sequence number; the communicator is then unusable. Results
// are deterministic: the same mesh gives the same bits, and every rank of the group receives the same bits.
//
// Tensors must be contiguous and fp32, fp64, bf16, int32 or uint8. Sums of two bf16 values are formed in fp32 and
// rounded.
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

// Names one started operation. A default-constructed ticket names none, and Wait on it does nothing.
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

  // Reduces `data` over all ranks, in place.
  virtual absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) = 0;
  // `input` holds size() blocks of equal size, and `output` receives block rank() of their sum. `output` may be that
  // block of `input` itself.
  virtual absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) = 0;
  // `output` receives size() blocks, block i from rank i. `input` is this rank's block; it may be that block of
  // `output` itself.
  virtual absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) = 0;
  virtual absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) = 0;

  // Completes an operation.
  virtual absl::Status Wait(Ticket ticket) = 0;
  // Lets outstanding operations progress, without blocking. Called between layers, so that a gradient reduction
  // advances while backward runs.
  virtual absl::Status Progress() = 0;

  // Point-to-point operations block and have the same deadline.
  virtual absl::Status Send(const Tensor& data, int destination) = 0;
  virtual absl::Status Receive(const Tensor& data, int source) = 0;
  virtual absl::Status Barrier() = 0;

  virtual void set_deadline(absl::Duration deadline) = 0;

  // Ranks with the same color form a group, ordered by `key`. Collective over this group.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) = 0;

  // Says whether the group's collectives can be captured (runtime/captured_work.h), as those of NCCL can. A group of
  // one has none that do anything. Collectives that are captured on one rank must be captured on all, and be started on
  // all in the same order.
  virtual bool capturable() const { return size() == 1; }
  // Call this after captured work with collectives of this group has been started: its deadline then holds for them
  // too.
  virtual absl::Status Replayed() { return absl::OkStatus(); }

  // Makes memory that many collectives use known to the network and the other ranks once (NCCL: registered buffers).
  // This holds for as long as the result lives, which must be shorter than the life of the memory and of the
  // communicator. It has no effect on the results' bits from one run to the next. Returns null if there is nothing to
  // gain or the library refuses. Collective; the tensor lies at the same offset of the same layout on all ranks.
  virtual std::shared_ptr<void> Register(const Tensor&) { return nullptr; }

  // The same group for tensors in host memory. It is this object if its tensors are there.
  virtual Communicator& host() { return *this; }

  // States where this group's operations are recorded, and as which group. A group of one records nowhere.
  struct Record {
    std::shared_ptr<CollectiveRing> ring;
    int group = 0;
  };
  virtual Record record() const { return {}; }

  // Ends every process of the job at once with this exit status. Does not return.
  [[noreturn]] virtual void Abort(int exit_status) = 0;

  // These do the same as the operations above, completed at once.
  absl::Status AllReduce(const Tensor& data, Reduction reduction = Reduction::kSum);
  absl::Status ReduceScatter(const Tensor& input, const Tensor& output);
  absl::Status AllGather(const Tensor& input, const Tensor& output);
  absl::Status Broadcast(const Tensor& data, int root);

  // Reduces host numbers, whatever the device of the group.
  absl::Status AllReduceNumbers(absl::Span<double> values, Reduction reduction = Reduction::kSum);
};

// Makes the group of `host` for tensors on the stream's GPU, staged through host memory. Several ranks can then share
// one GPU, and a GPU without NCCL can work. An operation has finished when its start returns.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host, const Stream& stream);

// Says whether NCCL is part of the program.
bool HasNccl();

// Makes the group of `host` by NCCL, for tensors on the stream's GPU, which no other rank of the group may use.
// Collectives run beside the stream's operators; Wait makes the stream wait, not the host. An operation that outlasts
// the deadline is aborted, so that Synchronize ends, and every later call fails. `deadline` holds for the set-up, and
// until set_deadline. Collective over `host`. Errors: Unimplemented in a build without NCCL.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                                   const Stream& stream, absl::Duration deadline);

// Makes a group of one, whose operations copy what there is to copy and complete at once.
std::unique_ptr<Communicator> MakeSelfCommunicator(std::string name = "world");

// Holds the MPI library for its own lifetime: initialises it with MPI_THREAD_FUNNELED or better, and finalises it at
// the end. A process that no launcher started is a world of one, without MPI.
class MpiRuntime {
 public:
  // Errors: FailedPrecondition, with the remedy, when Slurm or Open MPI says that several tasks were started but MPI
  // says one (`srun` without `--mpi=pmix`).
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Initialize();
  virtual ~MpiRuntime() = default;
  // The group of all ranks. Its deadline is that of setting up, half an hour, until it is set.
  virtual std::unique_ptr<Communicator> World() = 0;
  // The ring that World() and all groups of it write to.
  virtual const std::shared_ptr<CollectiveRing>& ring() const = 0;
  // The number of ranks on this node, and this rank's place among them. They decide how many cores it may use.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
};

// Makes a local failure everybody's. Returns OK if `local` is OK on every rank. Otherwise every rank gets the status of
// the lowest rank that failed. Its message is prefixed with "rank i: " when size() > 1 and not all ranks failed alike.
// Collective; called at the end of every phase in which a rank can fail alone.
absl::Status AgreeOnStatus(Communicator& world, const absl::Status& local);

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_COMMUNICATOR_H_
