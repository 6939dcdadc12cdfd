#include <string>
#include <utility>

#include "parallel/communicator.h"
#include "runtime/device.h"
#include "runtime/host_buffer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, const Stream& stream)
      : host_(std::move(host)), stream_(stream) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }
  Communicator& host() override { return *host_; }

  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) override {
    if (size() == 1) return host_->StartAllReduce(data, reduction);
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Fetch(data, input_));
    ISTHMUS_RETURN_IF_ERROR(host_->AllReduce(staged, reduction));
    return Done(CopyFromHost(staged, data, stream_));
  }
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Fetch(input, input_));
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor result, Room(output, output_));
    ISTHMUS_RETURN_IF_ERROR(host_->ReduceScatter(staged, result));
    return Done(CopyFromHost(result, output, stream_));
  }
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Fetch(input, input_));
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor result, Room(output, output_));
    ISTHMUS_RETURN_IF_ERROR(host_->AllGather(staged, result));
    return Done(CopyFromHost(result, output, stream_));
  }
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Fetch(data, input_));
    ISTHMUS_RETURN_IF_ERROR(host_->Broadcast(staged, root));
    return Done(CopyFromHost(staged, data, stream_));
  }
  absl::Status Wait(Ticket) override { return absl::OkStatus(); }
  absl::Status Progress() override { return host_->Progress(); }

  absl::Status Send(const Tensor& data, int destination) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Fetch(data, input_));
    return host_->Send(staged, destination);
  }
  absl::Status Receive(const Tensor& data, int source) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Room(data, output_));
    ISTHMUS_RETURN_IF_ERROR(host_->Receive(staged, source));
    return CopyFromHost(staged, data, stream_);
  }
  absl::Status Barrier() override { return host_->Barrier(); }
  void set_deadline(absl::Duration deadline) override { host_->set_deadline(deadline); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override {
    ISTHMUS_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, host_->Split(color, key, std::move(name)));
    return MakeStagedCommunicator(std::move(part), stream_);
  }
  Record record() const override { return host_->record(); }
  void Abort(int exit_status) override { host_->Abort(exit_status); }

 private:
  static absl::StatusOr<Ticket> Done(const absl::Status& status) {
    ISTHMUS_RETURN_IF_ERROR(status);
    return Ticket{};
  }
  // Host memory for a tensor of this shape.
  absl::StatusOr<Tensor> Room(const Tensor& tensor, HostBuffer& memory) const {
    return memory.Room(tensor.dtype, tensor.rows, tensor.columns, stream_);
  }
  absl::StatusOr<Tensor> Fetch(const Tensor& tensor, HostBuffer& memory) const {
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor staged, Room(tensor, memory));
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(tensor, staged, stream_));
    return staged;
  }

  std::unique_ptr<Communicator> host_;
  Stream stream_;
  HostBuffer input_, output_;
};

}  // namespace

std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host, const Stream& stream) {
  return std::make_unique<StagedCommunicator>(std::move(host), stream);
}

}  // namespace isthmus
