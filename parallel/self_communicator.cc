#include <absl/strings/str_cat.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "parallel/communicator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class SelfCommunicator : public Communicator {
 public:
  explicit SelfCommunicator(std::string name) : name_(std::move(name)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction) override {
    ISTHMUS_RETURN_IF_ERROR(CheckContiguous("all_reduce", data));
    return Ticket{};
  }
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override {
    return Copy(input, output);
  }
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override {
    return Copy(input, output);
  }
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override {
    ISTHMUS_RETURN_IF_ERROR(CheckContiguous("broadcast", data));
    ISTHMUS_RETURN_IF_ERROR(CheckPeer("broadcast root", root));
    return Ticket{};
  }
  absl::Status Wait(Ticket) override { return absl::OkStatus(); }
  absl::Status Progress() override { return absl::OkStatus(); }

  absl::Status Send(const Tensor&, int) override { return NoPeer(); }
  absl::Status Receive(const Tensor&, int) override { return NoPeer(); }
  absl::Status Barrier() override { return absl::OkStatus(); }
  void set_deadline(absl::Duration) override {}

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int, int, std::string name) override {
    return MakeSelfCommunicator(std::move(name));
  }
  void Abort(int exit_status) override { std::_Exit(exit_status); }

 private:
  // This group rejects what a larger group would reject, so that a fault shows before there are ranks.
  absl::Status CheckContiguous(const char* operation, const Tensor& data) const {
    if (data.contiguous()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name_, " group: ", operation, " of ", data.Describe(), "; needs contiguous elements"));
  }
  absl::StatusOr<Ticket> Copy(const Tensor& input, const Tensor& output) const {
    ISTHMUS_RETURN_IF_ERROR(CheckContiguous("a collective input", input));
    ISTHMUS_RETURN_IF_ERROR(CheckContiguous("a collective output", output));
    if (input.dtype != output.dtype || input.size() != output.size()) {
      return absl::InvalidArgumentError(absl::StrCat("collective of one rank: input ", input.Describe(), " and output ",
                                                     output.Describe(), " differ"));
    }
    if (input.data != output.data) std::memmove(output.data, input.data, static_cast<size_t>(input.bytes()));
    return Ticket{};
  }
  absl::Status CheckPeer(const char* what, int rank) const {
    if (rank == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: ", what, " ", rank, " in a group of 1 rank"));
  }
  absl::Status NoPeer() const {
    return absl::InvalidArgumentError(absl::StrCat(name_, " group: a group of one rank has no peer to talk to"));
  }

  std::string name_;
};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator(std::string name) {
  return std::make_unique<SelfCommunicator>(std::move(name));
}

}  // namespace isthmus
