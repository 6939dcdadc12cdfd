// A group whose collectives are recorded (runtime/work_recorder.h): the traffic of a step, from each start to its wait.
#ifndef ISTHMUS_PARALLEL_RECORDING_COMMUNICATOR_H_
#define ISTHMUS_PARALLEL_RECORDING_COMMUNICATOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "runtime/work_recorder.h"

namespace isthmus {

// Without an inner group it is the group of a dry run: rank `rank` of `size`. Its collectives succeed at once and leave
// the buffers as they are. With an inner group it hands everything on. Groups of one send nothing and record nothing.
// Numbers on the host (AllReduceNumbers) are not recorded: they are few, and wait for the slowest rank.
class RecordingCommunicator : public Communicator {
 public:
  RecordingCommunicator(std::string name, int rank, int size, WorkRecorder& recorder);
  // Groups that are split off record, too. `inner` and `recorder` must outlive it and them.
  RecordingCommunicator(Communicator& inner, WorkRecorder& recorder);
  RecordingCommunicator(std::unique_ptr<Communicator> inner, WorkRecorder& recorder);

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
  void set_deadline(absl::Duration deadline) override;
  // Errors: Unimplemented in a dry run, because its other ranks do not exist.
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override;
  Communicator& host() override;
  void Abort(int exit_status) override;

 private:
  // Records the start of a collective of `whole`, and that of `started` beside it if there is an inner group.
  absl::StatusOr<Ticket> Recorded(CollectiveKind kind, const Tensor& whole, absl::StatusOr<Ticket> started);

  const std::string name_;
  const int rank_, size_;
  WorkRecorder& recorder_;
  std::unique_ptr<Communicator> owned_;
  Communicator* inner_ = nullptr;             // null in a dry run
  std::unique_ptr<Communicator> unrecorded_;  // of a dry run: host()
  std::map<int64_t, int> tickets_;            // ticket of the inner group, and the recorder's ticket
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_RECORDING_COMMUNICATOR_H_
