#include "launch/plan/step_time.h"

#include <gtest/gtest.h>

namespace isthmus {
namespace {

using Kind = OperatorCost::Kind;

// One operation, one byte and one kernel take the given seconds; a collective among two ranks takes its bytes in
// seconds.
Machine SimpleMachine(double kernel_seconds = 0) {
  Machine machine;
  machine.device.fp32 = {
      .product_flops = 1, .attention_forward_flops = 0.5, .attention_backward_flops = 0.25, .memory_bytes = 1};
  machine.device.kernel_seconds = kernel_seconds;
  machine.links = {.devices_per_node = 8, .device_bytes = 0.5};
  return machine;
}

OperatorCost Cost(Kind kind, double flops, double bytes) {
  return {.name = "operator", .kind = kind, .flops = flops, .bytes = bytes};
}

StepTime Predict(const RecordedWork& work, const Machine& machine) {
  return PredictStep(work, machine, DType::kFloat32, 1, 2);
}

TEST(StepTime, OperatorsTakeWhatLimitsThem) {
  WorkRecorder recorder;
  recorder.Enter(StepPhase::kForward);
  recorder.BeginRepetition(3);
  recorder.Operator(Cost(Kind::kProduct, 10, 4));
  recorder.EndRepetition();
  recorder.Operator(Cost(Kind::kAttentionForward, 10, 4));
  recorder.Enter(StepPhase::kHead);
  for (int i = 0; i < 2; ++i) recorder.Operator(Cost(Kind::kProduct, 10, 40));
  recorder.Enter(StepPhase::kBackward);
  recorder.Operator(Cost(Kind::kAttentionBackward, 10, 4));
  recorder.Enter(StepPhase::kOptimizer);
  recorder.Operator(Cost(Kind::kMemory, 0, 7));
  const RecordedWork work = recorder.Take();
  const StepTime time = Predict(work, SimpleMachine());
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kForward], 3 * 10 + 20);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kHead], 2 * 40);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kBackward], 40);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kOptimizer], 7);
  EXPECT_DOUBLE_EQ(time.Total(), 50 + 80 + 40 + 7);
  EXPECT_EQ(work.OperatorCounts(), (std::vector<int64_t>{3, 1, 2, 1, 1}));
  // The host takes longer to start the kernels than they run.
  EXPECT_DOUBLE_EQ(Predict(work, SimpleMachine(100)).phases[StepPhase::kForward], 400);
}

TEST(StepTime, CollectivesHideBesideOperators) {
  WorkRecorder recorder;
  const auto gather = [&](int64_t bytes, double beside) {
    const int ticket = recorder.Start(CollectiveKind::kAllGather, "data", bytes);
    if (beside > 0) recorder.Operator(Cost(Kind::kProduct, beside, 0));
    recorder.Wait(ticket);
    recorder.Wait(ticket);  // no second wait
  };
  recorder.Enter(StepPhase::kForward);
  gather(5, 0);
  recorder.Enter(StepPhase::kBackward);
  gather(8, 10);
  recorder.BeginRepetition(4);
  gather(15, 10);
  recorder.EndRepetition();
  const RecordedWork work = recorder.Take();
  const StepTime time = Predict(work, SimpleMachine());
  EXPECT_DOUBLE_EQ(time.collectives[0].exposed_seconds, 5);
  EXPECT_DOUBLE_EQ(time.collectives[1].exposed_seconds, 0);
  EXPECT_DOUBLE_EQ(time.collectives[2].exposed_seconds, 4 * 5);
  EXPECT_DOUBLE_EQ(time.collectives[2].total_seconds, 4 * 15);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kForward], 5);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kBackward], 10 + 4 * 15);
  Machine mpi = SimpleMachine();
  mpi.device.overlaps = false;
  EXPECT_DOUBLE_EQ(Predict(work, mpi).phases[StepPhase::kBackward], 10 + 8 + 4 * (10 + 15));
}

TEST(StepTime, GradientBucketsWaitForEachOther) {
  WorkRecorder recorder;
  recorder.Enter(StepPhase::kBackward);
  std::vector<int> tickets;
  // They are ready 20, 10 and 0 seconds before the end. The second waits for the first and runs over the end by 2.
  for (const int64_t bytes : {12, 10, 3}) {
    tickets.push_back(recorder.Start(CollectiveKind::kAllReduce, "data", bytes / 2));
    if (bytes != 3) recorder.Operator(Cost(Kind::kProduct, 10, 0));
  }
  recorder.Enter(StepPhase::kReduce);
  for (const int ticket : tickets) recorder.Wait(ticket);
  Machine machine = SimpleMachine();
  const double each = 2 * (2 - 1) / 2.0 / 0.5;  // seconds of an all-reduced byte in a ring of two
  ASSERT_DOUBLE_EQ(each, 2);
  const StepTime time = Predict(recorder.Take(), machine);
  EXPECT_DOUBLE_EQ(time.collectives[0].exposed_seconds, 0);
  EXPECT_DOUBLE_EQ(time.collectives[1].exposed_seconds, 2);
  EXPECT_DOUBLE_EQ(time.phases[StepPhase::kBackward], 20);
  EXPECT_EQ(recorder.Take().timeline.size(), 0u);
}

}  // namespace
}  // namespace isthmus
