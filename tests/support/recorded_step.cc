#include "tests/support/recorded_step.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/train/dry_run.h"
#include "parallel/recording_communicator.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

using Event = RecordedWork::Event;

std::string Describe(const OperatorCall& call) {
  const OperatorCost& cost = call.cost;
  return absl::StrCat(PhaseName(call.phase), " ", call.place, " ", cost.name, " ", std::string(Name(cost.type)), " ",
                      static_cast<int>(cost.kind), " ", cost.m, "x", cost.n, "x", cost.k, " flops ", cost.flops,
                      " bytes ", cost.bytes);
}

std::string Describe(const CollectiveCall& call) {
  return absl::StrCat(PhaseName(call.phase), " ", call.place, " ", CollectiveName(call.kind), " over ", call.group,
                      " bytes ", call.bytes);
}

// One line for each event.
std::vector<std::string> Lines(const RecordedWork& work) {
  std::vector<std::string> lines;
  for (const Event& event : work.timeline) {
    const auto call = static_cast<size_t>(event.call);
    lines.push_back(event.kind == Event::Kind::kOperator
                        ? Describe(work.operators[call])
                        : absl::StrCat(event.kind == Event::Kind::kStart ? "start " : "wait ", event.ticket, " ",
                                       Describe(work.collectives[call])));
  }
  return lines;
}

std::map<std::string, int64_t> Counts(const RecordedWork& work) {
  std::map<std::string, int64_t> counts;
  const std::vector<int64_t> operators = work.OperatorCounts(), collectives = work.CollectiveCounts();
  for (size_t i = 0; i < operators.size(); ++i) counts[Describe(work.operators[i])] = operators[i];
  for (size_t i = 0; i < collectives.size(); ++i) counts[Describe(work.collectives[i])] = collectives[i];
  return counts;
}

}  // namespace

bool ExpectSameCalls(const TinyOptions& options, bool measure) {
  SCOPED_TRACE(absl::StrCat(options.Name(), measure ? " measured" : ""));
  WorkRecorder recorder;
  Stream stream;
  stream.set_recorder(&recorder);
  RecordingCommunicator world(World(), recorder);
  Replica replica(options, &world, 7, stream);
  recorder.Take();
  EXPECT_TRUE(replica.Step(1, measure).applied);
  const RecordedWork real = recorder.Take();
  const std::vector<uint64_t> counts = TinyCounts(options);
  const auto dry = RecordStep(
      TinyConfig(options), {.tensor_rank = replica.mesh().tensor_rank(), .measure = measure, .token_counts = counts});
  if (!dry.ok()) {
    ADD_FAILURE() << dry.status();
    return false;
  }
  EXPECT_GT(real.timeline.size(), 50u);
  const bool in_order = absl::c_all_of(dry->timeline, [](const Event& event) { return event.times == 1; });
  // Other data ranks have other rows, samples and parts of the optimizer.
  if (replica.mesh().data_rank() > 0) return in_order;
  if (in_order) {
    EXPECT_EQ(Lines(*dry), Lines(real));
  } else {
    EXPECT_LT(dry->timeline.size(), real.timeline.size());
    EXPECT_EQ(Counts(*dry), Counts(real));
  }
  return in_order;
}

}  // namespace isthmus::testing
