#include "parallel/mpi_communicator.h"

#include <absl/strings/str_cat.h>

#include <limits>
#include <utility>

#include "parallel/wait_clock.h"
#include "runtime/fault_point.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

MPI_Datatype DatatypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return MPI_FLOAT;
    case DType::kFloat64:
      return MPI_DOUBLE;
    case DType::kBFloat16:
      return MPI_UINT16_T;
    case DType::kInt32:
      return MPI_INT32_T;
    case DType::kUInt8:
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
      return MPI_UINT8_T;
  }
  return MPI_BYTE;
}

void SumBFloat16(void* input, void* inout, int* length, MPI_Datatype*) {
  const auto* in = static_cast<const BFloat16*>(input);
  auto* out = static_cast<BFloat16*>(inout);
  for (int i = 0; i < *length; ++i) out[i] = BFloat16(static_cast<float>(in[i]) + static_cast<float>(out[i]));
}

// Returns the world rank of a group's rank.
int WorldRankOf(MPI_Comm comm, int rank) {
  MPI_Group world = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Comm_group(comm, &group);
  int world_rank = -1;
  MPI_Group_translate_ranks(group, 1, &rank, world, &world_rank);
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  return world_rank;
}

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm comm, int world_rank, std::string name, std::shared_ptr<CollectiveRing> ring)
    : comm_(comm), world_rank_(world_rank), name_(std::move(name)), ring_(std::move(ring)) {
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  group_ = ring_->AddGroup(name_, WorldRankOf(comm_, 0), size_);
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  // Freeing a communicator is collective and would wait for a rank that is late or gone.
  if (finalized || !failure_.ok()) return;
  if (bf16_sum_ != MPI_OP_NULL) MPI_Op_free(&bf16_sum_);
  if (comm_ != MPI_COMM_WORLD) MPI_Comm_free(&comm_);
}

absl::Status MpiCommunicator::Check(const char* operation, int mpi_error) {
  if (mpi_error == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(mpi_error, text, &length);
  failure_ = absl::UnavailableError(absl::StrCat(name_, " group: ", operation, " failed on rank ", rank_, " of ", size_,
                                                 " (world rank ", world_rank_,
                                                 "): ", absl::string_view(text, static_cast<size_t>(length))));
  return failure_;
}

std::string MpiCommunicator::Describe(const Pending& pending) const {
  const std::string which = pending.peer < 0 ? absl::StrCat("#", pending.order) : absl::StrCat("rank ", pending.peer);
  return absl::StrCat(name_, " group: ", pending.operation, " ", which, " of ", pending.data.Describe());
}

absl::StatusOr<MpiCommunicator::Pending*> MpiCommunicator::Begin(const char* operation, const Tensor& data, int peer) {
  if (!failure_.ok()) return failure_;
  if (!data.contiguous() || data.size() > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: ", operation, " of ", data.Describe(),
                                                   "; needs contiguous elements, fewer than 2^31"));
  }
  Pending* slot = nullptr;
  for (const auto& candidate : pending_) {
    if (candidate->sequence < 0) slot = candidate.get();
  }
  if (slot == nullptr) slot = pending_.emplace_back(std::make_unique<Pending>()).get();
  slot->operation = operation;
  slot->data = data;
  slot->peer = peer;
  if (peer < 0) {
    slot->order = next_order_++;
    slot->number = ring_->Start(group_, slot->order, operation, data.bytes());
  } else {
    slot->number = ring_->StartMessage(group_, WorldRankOf(comm_, peer), operation, data.bytes());
  }
  return slot;
}

absl::StatusOr<Ticket> MpiCommunicator::Started(Pending* pending, int mpi_error) {
  ISTHMUS_RETURN_IF_ERROR(Check(pending->operation, mpi_error));
  pending->sequence = next_sequence_++;
  return Ticket{pending->sequence};
}

absl::StatusOr<MPI_Op> MpiCommunicator::OperationOf(DType dtype, Reduction reduction) {
  if (dtype == DType::kBFloat16) {
    if (reduction != Reduction::kSum) {
      return absl::InvalidArgumentError(absl::StrCat(name_, " group: bf16 can only be summed"));
    }
    if (bf16_sum_ == MPI_OP_NULL) {
      ISTHMUS_RETURN_IF_ERROR(Check("create bf16 sum", MPI_Op_create(&SumBFloat16, /*commute=*/1, &bf16_sum_)));
    }
    return bf16_sum_;
  }
  if (IsFloat8(dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: fp8 can be moved, not reduced"));
  }
  switch (reduction) {
    case Reduction::kMax:
      return MPI_MAX;
    case Reduction::kMin:
      return MPI_MIN;
    case Reduction::kSum:
      break;
  }
  return MPI_SUM;
}

absl::StatusOr<Ticket> MpiCommunicator::StartAllReduce(const Tensor& data, Reduction reduction) {
  ISTHMUS_ASSIGN_OR_RETURN(const MPI_Op operation, OperationOf(data.dtype, reduction));
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("all_reduce", data));
  return Started(pending, MPI_Iallreduce(MPI_IN_PLACE, data.data, static_cast<int>(data.size()), DatatypeOf(data.dtype),
                                         operation, comm_, &pending->request));
}

absl::StatusOr<Ticket> MpiCommunicator::StartReduceScatter(const Tensor& input, const Tensor& output) {
  if (!output.contiguous() || input.dtype != output.dtype || input.size() != output.size() * size_) {
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: reduce_scatter of ", input.Describe(), " to ",
                                                   output.Describe(), "; the output must be 1/", size_,
                                                   " of the input"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const MPI_Op operation, OperationOf(input.dtype, Reduction::kSum));
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("reduce_scatter", input));
  const int count = static_cast<int>(output.size());
  // MPI forbids overlapping buffers. Its in-place form leaves the result in block 0, which is this rank's only on rank
  // 0.
  const char* begin = static_cast<const char*>(input.data);
  const char* place = static_cast<const char*>(output.data);
  if (place < begin || place >= begin + input.bytes()) {
    return Started(pending, MPI_Ireduce_scatter_block(input.data, output.data, count, DatatypeOf(input.dtype),
                                                      operation, comm_, &pending->request));
  }
  // An all-reduce sums all blocks, and the caller uses its own. That is twice the traffic, needs no scratch memory, and
  // gives the same result.
  return Started(pending, MPI_Iallreduce(MPI_IN_PLACE, input.data, static_cast<int>(input.size()),
                                         DatatypeOf(input.dtype), operation, comm_, &pending->request));
}

absl::StatusOr<Ticket> MpiCommunicator::StartAllGather(const Tensor& input, const Tensor& output) {
  if (!input.contiguous() || input.dtype != output.dtype || output.size() != input.size() * size_) {
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: all_gather of ", input.Describe(), " to ",
                                                   output.Describe(), "; the output must be ", size_,
                                                   " times the input"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("all_gather", output));
  const bool in_place = input.data == static_cast<char*>(output.data) + rank_ * input.bytes();
  const int count = static_cast<int>(input.size());
  return Started(pending, MPI_Iallgather(in_place ? MPI_IN_PLACE : input.data, count, DatatypeOf(input.dtype),
                                         output.data, count, DatatypeOf(output.dtype), comm_, &pending->request));
}

absl::StatusOr<Ticket> MpiCommunicator::StartBroadcast(const Tensor& data, int root) {
  if (root < 0 || root >= size_) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, " group: broadcast root ", root, " in a group of ", size_, " ranks"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("broadcast", data));
  return Started(pending, MPI_Ibcast(data.data, static_cast<int>(data.size()), DatatypeOf(data.dtype), root, comm_,
                                     &pending->request));
}

void MpiCommunicator::Ended(Pending& pending) {
  pending.sequence = -1;
  ring_->End(pending.number);
}

absl::Status MpiCommunicator::Poll(Pending& pending) {
  const absl::Duration start = MonotonicNow();
  WaitClock clock(start);
  const int spins = give_way_.Spins();
  for (int64_t polls = 0;; ++polls) {
    int done = 0;
    ISTHMUS_RETURN_IF_ERROR(Check(pending.operation, MPI_Test(&pending.request, &done, MPI_STATUS_IGNORE)));
    if (done) {
      Ended(pending);
      ring_->whereabouts().AddWait(absl::ToDoubleSeconds(MonotonicNow() - start));
      return absl::OkStatus();
    }
    if (polls < spins) continue;
    if (polls == spins) ring_->Wait(pending.number);
    if (clock.Elapsed(MonotonicNow()) * FaultHaste() > deadline_) {
      failure_ = absl::DeadlineExceededError(absl::StrCat(
          Describe(pending), " did not complete within ", absl::FormatDuration(deadline_), " on rank ", rank_, " of ",
          size_, " (world rank ", world_rank_, "); another rank is late, stopped or failed"));
      return failure_;
    }
    give_way_();
  }
}

absl::Status MpiCommunicator::Wait(Ticket ticket) {
  if (!failure_.ok()) return failure_;
  if (ticket.sequence < 0) return absl::OkStatus();
  for (const auto& pending : pending_) {
    if (pending->sequence == ticket.sequence) return Poll(*pending);
  }
  return absl::OkStatus();  // completed already
}

absl::Status MpiCommunicator::Progress() {
  if (!failure_.ok()) return failure_;
  for (const auto& pending : pending_) {
    if (pending->sequence < 0) continue;
    int done = 0;
    ISTHMUS_RETURN_IF_ERROR(Check(pending->operation, MPI_Test(&pending->request, &done, MPI_STATUS_IGNORE)));
    if (done) Ended(*pending);
  }
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Send(const Tensor& data, int destination) {
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("send to", data, destination));
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket,
                           Started(pending, MPI_Isend(data.data, static_cast<int>(data.size()), DatatypeOf(data.dtype),
                                                      destination, /*tag=*/0, comm_, &pending->request)));
  return Wait(ticket);
}

absl::Status MpiCommunicator::Receive(const Tensor& data, int source) {
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("receive from", data, source));
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket,
                           Started(pending, MPI_Irecv(data.data, static_cast<int>(data.size()), DatatypeOf(data.dtype),
                                                      source, /*tag=*/0, comm_, &pending->request)));
  return Wait(ticket);
}

absl::Status MpiCommunicator::Barrier() {
  ISTHMUS_ASSIGN_OR_RETURN(Pending * pending, Begin("barrier", Tensor()));
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, Started(pending, MPI_Ibarrier(comm_, &pending->request)));
  return Wait(ticket);
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiCommunicator::Split(int color, int key, std::string name) {
  if (!failure_.ok()) return failure_;
  // MPI_Comm_split has no non-blocking form. A barrier with the deadline first makes sure that all ranks arrive.
  ISTHMUS_RETURN_IF_ERROR(Barrier());
  MPI_Comm part = MPI_COMM_NULL;
  ISTHMUS_RETURN_IF_ERROR(Check("split", MPI_Comm_split(comm_, color, key, &part)));
  int part_size = 1;
  MPI_Comm_size(part, &part_size);
  if (part_size == 1) {
    MPI_Comm_free(&part);
    return MakeSelfCommunicator(std::move(name));
  }
  auto communicator = std::make_unique<MpiCommunicator>(part, world_rank_, std::move(name), ring_);
  communicator->set_deadline(deadline_);
  return communicator;
}

void MpiCommunicator::Abort(int exit_status) {
  MPI_Abort(MPI_COMM_WORLD, exit_status);
  std::_Exit(exit_status);
}

}  // namespace isthmus
