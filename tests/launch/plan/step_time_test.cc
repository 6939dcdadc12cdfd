#include "launch/plan/step_time.h"

#include <gtest/gtest.h>

namespace isthmus {
namespace {

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

OperatorWork Op(StepPhase phase, OperatorWork::Kind kind, int64_t calls, double flops, double bytes) {
  return {.phase = phase, .name = "op", .kind = kind, .calls = calls, .flops = flops, .bytes = bytes};
}

CollectiveWork Gather(StepPhase phase, int64_t bytes, int beside = -1, double backward_left = -1) {
  return {.phase = phase,
          .name = "gather",
          .kind = CollectiveWork::Kind::kAllGather,
          .group = CollectiveWork::Group::kData,
          .calls = 1,
          .bytes = bytes,
          .beside = beside,
          .backward_left = backward_left};
}

StepTime Predict(const StepWork& work, const Machine& machine) {
  return PredictStep(work, machine, DType::kFloat32, 1, 2);
}

TEST(StepTime, OperatorsTakeWhatLimitsThem) {
  using Kind = OperatorWork::Kind;
  StepWork work;
  work.micro_batches = 1;
  work.operators = {
      Op(StepPhase::kForward, Kind::kProduct, 3, 10, 4), Op(StepPhase::kForward, Kind::kAttentionForward, 1, 10, 4),
      Op(StepPhase::kHead, Kind::kProduct, 2, 10, 40),   Op(StepPhase::kBackward, Kind::kAttentionBackward, 1, 10, 4),
      Op(StepPhase::kOptimizer, Kind::kMemory, 1, 0, 7), Op(StepPhase::kTelemetry, Kind::kMemory, 1, 0, 1000)};
  const StepTime time = Predict(work, SimpleMachine());
  EXPECT_DOUBLE_EQ(time.phases.forward, 3 * 10 + 20);
  EXPECT_DOUBLE_EQ(time.phases.head, 2 * 40);
  EXPECT_DOUBLE_EQ(time.phases.backward, 40);
  EXPECT_DOUBLE_EQ(time.phases.optimizer, 7);
  EXPECT_DOUBLE_EQ(time.Total(), 50 + 80 + 40 + 7);  // without telemetry
  // A host that takes longer to start the kernels than they run.
  EXPECT_DOUBLE_EQ(Predict(work, SimpleMachine(100)).phases.forward, 400);
}

TEST(StepTime, CollectivesHideBesideTheirOperator) {
  StepWork work;
  work.micro_batches = 1;
  work.operators = {Op(StepPhase::kBackward, OperatorWork::Kind::kProduct, 1, 10, 0)};
  work.collectives = {Gather(StepPhase::kBackward, 8, 0), Gather(StepPhase::kBackward, 15, 0),
                      Gather(StepPhase::kForward, 5)};
  const StepTime time = Predict(work, SimpleMachine());
  EXPECT_DOUBLE_EQ(time.collectives[0].exposed_seconds, 0);
  EXPECT_DOUBLE_EQ(time.collectives[1].exposed_seconds, 5);
  EXPECT_DOUBLE_EQ(time.phases.backward, 15);
  EXPECT_DOUBLE_EQ(time.phases.forward, 5);
  Machine mpi = SimpleMachine();
  mpi.device.overlaps = false;
  EXPECT_DOUBLE_EQ(Predict(work, mpi).phases.backward, 10 + 8 + 15);
}

TEST(StepTime, GradientBucketsWaitForEachOtherAndHideInTheLastBackwardPass) {
  StepWork work;
  work.micro_batches = 4;  // of 20 seconds each
  work.operators = {Op(StepPhase::kBackward, OperatorWork::Kind::kProduct, 4, 20, 0)};
  // Ready 20, 10 and 0 seconds before the end; the second waits for the first and runs over the end by 2.
  work.collectives = {Gather(StepPhase::kReduce, 12, -1, 1.0), Gather(StepPhase::kReduce, 10, -1, 0.5),
                      Gather(StepPhase::kReduce, 3, -1, 0.0)};
  const StepTime time = Predict(work, SimpleMachine());
  EXPECT_DOUBLE_EQ(time.collectives[0].exposed_seconds, 0);
  EXPECT_DOUBLE_EQ(time.collectives[1].exposed_seconds, 2);
  EXPECT_DOUBLE_EQ(time.collectives[2].exposed_seconds, 3);
  EXPECT_DOUBLE_EQ(time.phases.reduce, 5);
}

}  // namespace
}  // namespace isthmus
