#include "parallel/communicator.h"

#include "runtime/status.h"

namespace isthmus {

absl::Status Communicator::AllReduce(const Tensor& data, Reduction reduction) {
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, StartAllReduce(data, reduction));
  return Wait(ticket);
}

absl::Status Communicator::ReduceScatter(const Tensor& input, const Tensor& output) {
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, StartReduceScatter(input, output));
  return Wait(ticket);
}

absl::Status Communicator::AllGather(const Tensor& input, const Tensor& output) {
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, StartAllGather(input, output));
  return Wait(ticket);
}

absl::Status Communicator::Broadcast(const Tensor& data, int root) {
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, StartBroadcast(data, root));
  return Wait(ticket);
}

absl::Status Communicator::AllReduceNumbers(absl::Span<double> values, Reduction reduction) {
  return host().AllReduce(Tensor(values.data(), DType::kFloat64, 1, static_cast<int64_t>(values.size())), reduction);
}

}  // namespace isthmus
