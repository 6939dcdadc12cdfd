// A communicator that counts what goes through it and hands it on: how often a real step calls which collective.
#ifndef ISTHMUS_TESTS_SUPPORT_COUNTING_COMMUNICATOR_H_
#define ISTHMUS_TESTS_SUPPORT_COUNTING_COMMUNICATOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "parallel/communicator.h"

namespace isthmus::testing {

// Calls by group, operation ("all-reduce", "reduce-scatter", "all-gather") and bytes of the whole buffer.
using CollectiveCounts = std::map<std::tuple<std::string, std::string, int64_t>, int64_t>;

class CountingCommunicator : public Communicator {
 public:
  // Groups that are split from this one count into the same `counts`. Both must outlive it.
  CountingCommunicator(Communicator& inner, CollectiveCounts& counts) : inner_(&inner), counts_(&counts) {}
  CountingCommunicator(std::unique_ptr<Communicator> inner, CollectiveCounts& counts)
      : owned_(std::move(inner)), inner_(owned_.get()), counts_(&counts) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) override {
    Count("all-reduce", data);
    return inner_->StartAllReduce(data, reduction);
  }
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override {
    Count("reduce-scatter", input);
    return inner_->StartReduceScatter(input, output);
  }
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override {
    Count("all-gather", output);
    return inner_->StartAllGather(input, output);
  }
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override {
    Count("broadcast", data);
    return inner_->StartBroadcast(data, root);
  }
  absl::Status Wait(Ticket ticket) override { return inner_->Wait(ticket); }
  absl::Status Progress() override { return inner_->Progress(); }
  absl::Status Send(const Tensor& data, int destination) override { return inner_->Send(data, destination); }
  absl::Status Receive(const Tensor& data, int source) override { return inner_->Receive(data, source); }
  absl::Status Barrier() override { return inner_->Barrier(); }
  void set_deadline(absl::Duration deadline) override { inner_->set_deadline(deadline); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override {
    auto group = inner_->Split(color, key, std::move(name));
    if (!group.ok()) return group.status();
    return std::make_unique<CountingCommunicator>(*std::move(group), *counts_);
  }
  // Single numbers that go through the host are not counted.
  Communicator& host() override { return inner_->host(); }
  void Abort(int exit_status) override { inner_->Abort(exit_status); }

 private:
  // Groups of one are no communication.
  void Count(const char* operation, const Tensor& whole) {
    if (size() > 1) ++(*counts_)[{name(), operation, whole.bytes()}];
  }

  std::unique_ptr<Communicator> owned_;
  Communicator* inner_;
  CollectiveCounts* counts_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_COUNTING_COMMUNICATOR_H_
