#include "parallel/recording_communicator.h"

#include <absl/strings/str_cat.h>

#include <cstdlib>
#include <utility>

#include "runtime/status.h"

namespace isthmus {

RecordingCommunicator::RecordingCommunicator(std::string name, int rank, int size, WorkRecorder& recorder)
    : name_(std::move(name)), rank_(rank), size_(size), recorder_(recorder), unrecorded_(MakeSelfCommunicator(name_)) {}

RecordingCommunicator::RecordingCommunicator(Communicator& inner, WorkRecorder& recorder)
    : name_(inner.name()), rank_(inner.rank()), size_(inner.size()), recorder_(recorder), inner_(&inner) {}

RecordingCommunicator::RecordingCommunicator(std::unique_ptr<Communicator> inner, WorkRecorder& recorder)
    : RecordingCommunicator(*inner, recorder) {
  owned_ = std::move(inner);
}

absl::StatusOr<Ticket> RecordingCommunicator::Recorded(CollectiveKind kind, const Tensor& whole,
                                                       absl::StatusOr<Ticket> started) {
  if (!started.ok() || size_ == 1) return started;
  const int ticket = recorder_.Start(kind, name_, whole.bytes());
  if (inner_ == nullptr) return Ticket{ticket};
  tickets_[started->sequence] = ticket;
  return started;
}

absl::StatusOr<Ticket> RecordingCommunicator::StartAllReduce(const Tensor& data, Reduction reduction) {
  return Recorded(CollectiveKind::kAllReduce, data,
                  inner_ == nullptr ? Ticket{} : inner_->StartAllReduce(data, reduction));
}

absl::StatusOr<Ticket> RecordingCommunicator::StartReduceScatter(const Tensor& input, const Tensor& output) {
  return Recorded(CollectiveKind::kReduceScatter, input,
                  inner_ == nullptr ? Ticket{} : inner_->StartReduceScatter(input, output));
}

absl::StatusOr<Ticket> RecordingCommunicator::StartAllGather(const Tensor& input, const Tensor& output) {
  return Recorded(CollectiveKind::kAllGather, output,
                  inner_ == nullptr ? Ticket{} : inner_->StartAllGather(input, output));
}

absl::StatusOr<Ticket> RecordingCommunicator::StartBroadcast(const Tensor& data, int root) {
  return Recorded(CollectiveKind::kBroadcast, data, inner_ == nullptr ? Ticket{} : inner_->StartBroadcast(data, root));
}

absl::Status RecordingCommunicator::Wait(Ticket ticket) {
  if (inner_ == nullptr) {
    recorder_.Wait(static_cast<int>(ticket.sequence));
    return absl::OkStatus();
  }
  if (const auto found = tickets_.find(ticket.sequence); found != tickets_.end()) {
    recorder_.Wait(found->second);
    tickets_.erase(found);
  }
  return inner_->Wait(ticket);
}

absl::Status RecordingCommunicator::Progress() { return inner_ == nullptr ? absl::OkStatus() : inner_->Progress(); }

absl::Status RecordingCommunicator::Send(const Tensor& data, int destination) {
  return inner_ == nullptr ? absl::OkStatus() : inner_->Send(data, destination);
}

absl::Status RecordingCommunicator::Receive(const Tensor& data, int source) {
  return inner_ == nullptr ? absl::OkStatus() : inner_->Receive(data, source);
}

absl::Status RecordingCommunicator::Barrier() { return inner_ == nullptr ? absl::OkStatus() : inner_->Barrier(); }

void RecordingCommunicator::set_deadline(absl::Duration deadline) {
  if (inner_ != nullptr) inner_->set_deadline(deadline);
}

absl::StatusOr<std::unique_ptr<Communicator>> RecordingCommunicator::Split(int color, int key, std::string name) {
  if (inner_ == nullptr) return absl::UnimplementedError(absl::StrCat(name, ": a dry run's group can't be split"));
  ISTHMUS_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, inner_->Split(color, key, std::move(name)));
  return std::make_unique<RecordingCommunicator>(std::move(group), recorder_);
}

Communicator& RecordingCommunicator::host() { return inner_ == nullptr ? *unrecorded_ : inner_->host(); }

void RecordingCommunicator::Abort(int exit_status) {
  if (inner_ != nullptr) inner_->Abort(exit_status);
  std::exit(exit_status);
}

}  // namespace isthmus
