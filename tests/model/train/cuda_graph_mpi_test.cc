// ranks: 1 2
// Micro-batches replayed from a CUDA graph give the bits that the same work gives when it is started piece by piece.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "ops/elementwise.h"
#include "runtime/arena.h"
#include "runtime/captured_work.h"
#include "runtime/device.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class CudaGraphTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto devices = CudaDeviceCount();
    if (!devices.ok()) GTEST_SKIP() << devices.status().message();
    auto stream = OpenCudaStream(0);
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = *stream;
    auto arena = Arena::Allocate("test", 1024, Device::kCuda);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    x_ = arena_.At(0, DType::kFloat32, 1, 3);
    y_ = arena_.At(512, DType::kFloat32, 1, 3);
  }

  void Put(const Tensor& tensor, std::vector<float> values) {
    const Tensor host(values.data(), DType::kFloat32, 1, 3);
    ASSERT_TRUE(CopyFromHost(host, tensor, stream_).ok());
  }
  std::vector<float> Get(const Tensor& tensor) {
    std::vector<float> values(3);
    EXPECT_TRUE(CopyToHost(tensor, Tensor(values.data(), DType::kFloat32, 1, 3), stream_).ok());
    return values;
  }

  static TinyOptions GraphOptions(int variant, bool graph) {
    TinyOptions options;
    options.data = World().size();
    options.sequences = 4 * World().size();
    options.micro_batch = 2;
    options.vocabulary = 61;
    options.precision = variant == 0 ? proto::PrecisionConfig::FP32 : proto::PrecisionConfig::BF16;
    options.recompute = variant == 1;
    options.head_rank = variant == 1 ? 6 : 0;
    options.cuda_graph = graph;
    return options;
  }
  static std::vector<char> Weights(Replica& replica, const Stream& stream) {
    const Tensor weights = replica.model().parameters().weights();
    std::vector<char> bytes(static_cast<size_t>(weights.bytes()));
    EXPECT_TRUE(CopyToHost(weights, Tensor(bytes.data(), weights.dtype, 1, weights.columns), stream).ok());
    return bytes;
  }

  Stream stream_;
  Arena arena_;
  Tensor x_, y_;
};

TEST_F(CudaGraphTest, CapturedWorkRunsOnlyWhenStartedAndReadsWhatIsThereThen) {
  Put(x_, {1, 2, 3});
  Put(y_, {10, 20, 30});
  int calls = 0;
  const auto work = CapturedWork::Capture(stream_, [&] {
    ++calls;
    return Add({.x = x_, .y = y_}, stream_);
  });
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_EQ(Get(y_), (std::vector<float>{10, 20, 30}));
  ASSERT_TRUE((*work)->Start().ok());
  EXPECT_EQ(Get(y_), (std::vector<float>{11, 22, 33}));
  Put(x_, {100, 0, 0});
  ASSERT_TRUE((*work)->Start().ok());
  EXPECT_EQ(Get(y_), (std::vector<float>{111, 22, 33}));
  EXPECT_EQ(calls, 1);
}

TEST_F(CudaGraphTest, WhatCannotBeCapturedIsAnErrorAndTheStreamGoesOn) {
  Put(y_, {1, 1, 1});
  const auto refused = CapturedWork::Capture(stream_, [&] { return absl::DataLossError("not this"); });
  EXPECT_EQ(refused.status(), absl::DataLossError("not this"));
  const auto waits = CapturedWork::Capture(stream_, [&] {
    const absl::Status added = Add({.x = y_, .y = y_}, stream_);
    return stream_.Synchronize().ok() ? absl::InternalError("the stream was waited for") : added;
  });
  EXPECT_EQ(waits.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(waits.status().message()), HasSubstr("cudaStreamEndCapture"));
  const auto allocates =
      CapturedWork::Capture(stream_, [&] { return Arena::Allocate("test", 1 << 20, Device::kCuda).status(); });
  EXPECT_FALSE(allocates.ok());
  // Nothing of it has run, and the stream can be used and captured.
  EXPECT_EQ(Get(y_), (std::vector<float>{1, 1, 1}));
  const auto work = CapturedWork::Capture(stream_, [&] { return Add({.x = y_, .y = y_}, stream_); });
  ASSERT_TRUE(work.ok()) << work.status();
  ASSERT_TRUE((*work)->Start().ok());
  EXPECT_EQ(Get(y_), (std::vector<float>{2, 2, 2}));
}

TEST_F(CudaGraphTest, TrainingGivesTheSameBits) {
  for (const int variant : {0, 1}) {
    const TinyOptions options = GraphOptions(variant, true);
    SCOPED_TRACE(options.Name());
    Replica plain(GraphOptions(variant, false), &World(), 7, stream_), graph(options, &World(), 7, stream_);
    int64_t step = 0;
    for (const bool measure_head : {false, true, true, false}) {
      ++step;
      const StepWithFigures expected = plain.Step(step, measure_head), found = graph.Step(step, measure_head);
      EXPECT_EQ(found.loss, expected.loss);
      EXPECT_EQ(found.gradient_norm, expected.gradient_norm);
      ASSERT_EQ(found.head.has_value(), measure_head);
      const auto retained = [](const StepWithFigures& result) {
        return result.head ? result.head->scalars.retained_gradient_norm() : 0.0;
      };
      EXPECT_EQ(retained(found), retained(expected));
      EXPECT_EQ(retained(found) > 0, measure_head);
      EXPECT_GT(found.seconds[StepPhase::kForward], 0);
      EXPECT_GT(found.seconds[StepPhase::kBackward], 0);
      EXPECT_EQ(found.seconds[StepPhase::kTelemetry] > 0, measure_head);
    }
    EXPECT_EQ(Weights(graph, stream_), Weights(plain, stream_));
    EXPECT_EQ(plain.model().captured(), 0);
    // Host memory, through which ranks that share a GPU exchange, can't be captured. That is said once, and graphs are
    // done without.
    EXPECT_EQ(graph.model().captured(), World().size() == 1 ? 4 : 0);
  }
  EXPECT_THAT(stream_.TakeNotes(), Contains(HasSubstr("cuda.graph has no effect")).Times(World().size() == 1 ? 0 : 1));
}

TEST_F(CudaGraphTest, HeadsThatAreNotLinearGiveTheSameBits) {
  for (const char* head : {"kind: 'wide'", "kind: 'mixture' mixture { count: 3 }", "kind: 'copy' copy_width: 35",
                           "kind: 'copy' copy_width: 8 soft_cap: 3 z_loss: 0.1"}) {
    TinyOptions options = GraphOptions(0, false);
    options.head = head;
    options.vocabulary = 13;  // few tokens, so that sequences repeat them
    SCOPED_TRACE(options.Name());
    Replica plain(options, &World(), 7, stream_);
    options.cuda_graph = true;
    Replica graph(options, &World(), 7, stream_);
    for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(graph.Step(step).loss, plain.Step(step).loss);
    EXPECT_EQ(Weights(graph, stream_), Weights(plain, stream_));
    EXPECT_EQ(graph.model().captured(), World().size() == 1 ? 2 : 0);
  }
}

// Replays of a step see its weights. A head that takes one row of targets at a time is captured in steps without later
// targets alone.
TEST_F(CudaGraphTest, LaterTargetsGiveTheSameBitsWithWeightsThatChange) {
  const std::string stages =
      "future { weights: [1, 0.5] } future { from_step: 4 weights: [0.2, 0] } "
      "future { from_step: 5 weights: [0, 0] }";
  for (const auto& [kind, captured] : {std::pair("full", 4), std::pair("mixture", 2)}) {
    TinyOptions options = GraphOptions(0, false);
    options.head_kind = kind;
    options.head = stages;
    SCOPED_TRACE(options.Name());
    Replica plain(options, &World(), 7, stream_);
    options.cuda_graph = true;
    Replica graph(options, &World(), 7, stream_);
    for (int64_t step = 1; step <= 7; ++step) EXPECT_EQ(graph.Step(step).loss, plain.Step(step).loss) << step;
    EXPECT_EQ(Weights(graph, stream_), Weights(plain, stream_));
    EXPECT_EQ(graph.model().captured(), World().size() == 1 ? captured : 0);
  }
}

// Without this the first test could compare a graph that ignores its input with itself.
TEST_F(CudaGraphTest, AReplaySeesNewTokensAndNewWeights) {
  if (World().size() > 1) GTEST_SKIP() << "captures need a group of one here";
  const TinyOptions options = GraphOptions(0, true);
  Replica replica(options, &World(), 7, stream_);
  TokenBatch one = MakeBatch(options, 1), other = MakeBatch(options, 2);
  int64_t step = 0;
  // A learning rate of zero leaves the weights as they are.
  const auto loss_of = [&](TokenBatch& batch) {
    return replica.model()
        .Step({.ids = PartOf(batch.ids, 0, 1), .targets = PartOf(batch.targets, 0, 1), .step = ++step})
        ->loss;
  };
  loss_of(one);
  loss_of(one);
  ASSERT_EQ(replica.model().captured(), 2);
  const double first = loss_of(one), second = loss_of(other);
  EXPECT_NE(first, second);
  EXPECT_EQ(loss_of(one), first);

  TokenBatch shuffled = one;
  // Only the last micro-batch differs.
  std::swap(shuffled.targets.back(), shuffled.targets[shuffled.targets.size() / 2]);
  EXPECT_NE(loss_of(shuffled), first);

  std::vector<char> bytes = Weights(replica, stream_);
  const Tensor weights = replica.model().parameters().weights();
  const Tensor host(bytes.data(), weights.dtype, 1, weights.columns);
  SetElement(host, 0, ElementOf(host, 0) + 1);
  ASSERT_TRUE(CopyFromHost(host, weights, stream_).ok());
  const double changed = loss_of(one);
  EXPECT_NE(changed, first);
  EXPECT_NEAR(changed, first, 1);
}

TEST_F(CudaGraphTest, ACaptureThatFailsIsDoneWithout) {
  if (DescribeCudaDevice(0)->name != "CUDA on the CPU") GTEST_SKIP() << "needs the emulation, which can let one fail";
  if (World().size() > 1) GTEST_SKIP() << "captures need a group of one here";
  Replica plain(GraphOptions(0, false), &World(), 7, stream_), graph(GraphOptions(0, true), &World(), 7, stream_);
  setenv("ISTHMUS_EMULATED_CAPTURE_FAILS", "1", 1);
  for (const int64_t step : {1, 2}) EXPECT_EQ(graph.Step(step).loss, plain.Step(step).loss);
  unsetenv("ISTHMUS_EMULATED_CAPTURE_FAILS");
  EXPECT_EQ(graph.model().captured(), 0);
  EXPECT_THAT(stream_.TakeNotes(), Contains(HasSubstr("a micro-batch can't be captured")));
}

}  // namespace
}  // namespace isthmus::testing
