#include "ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/cuda/attention_workspace.h"
#include "runtime/device.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct AttentionCase {
  AttentionShape shape;
  int64_t padding;
};
AttentionShape ShapeOf(int64_t sequences, int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {
      .sequences = sequences, .sequence_length = length, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
}
// There are lengths of one token, and below, at and above the sizes of blocks. There is one key head per query head, a
// shared one, and one for all.
const std::vector<AttentionCase> kAttentionCases = {{ShapeOf(1, 1, 1, 1, 8), 0},   {ShapeOf(2, 7, 4, 2, 6), 3},
                                                    {ShapeOf(1, 64, 2, 2, 16), 0}, {ShapeOf(2, 65, 3, 1, 32), 5},
                                                    {ShapeOf(1, 131, 6, 3, 5), 0}, {ShapeOf(1, 300, 2, 1, 64), 0}};

struct AttentionResult {
  Matrix out, log_sum_exp;
  Matrix grad_q, grad_k, grad_v;
};

// Computes attention with all T×T weights, and its gradients by the definition of the softmax's derivative.
AttentionResult Naive(const AttentionShape& s, double scale, const Matrix& q, const Matrix& k, const Matrix& v,
                      const Matrix& grad_out) {
  const int64_t length = s.sequence_length, dim = s.head_dim;
  AttentionResult result = {Matrix(q.rows, q.columns), Matrix(s.sequences, s.heads * length), Matrix(q.rows, q.columns),
                            Matrix(k.rows, k.columns), Matrix(v.rows, v.columns)};
  for (int64_t b = 0; b < s.sequences; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t q0 = h * dim, k0 = h * s.kv_heads / s.heads * dim;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t row = b * length + t;
        std::vector<double> weights;
        for (int64_t key = 0; key <= t; ++key) {
          double score = 0;
          for (int64_t i = 0; i < dim; ++i) score += q(row, q0 + i) * k(b * length + key, k0 + i);
          weights.push_back(scale * score);
        }
        const double largest = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (const double weight : weights) sum += std::exp(weight - largest);
        result.log_sum_exp(b, h * length + t) = largest + std::log(sum);
        std::vector<double> grad_weights;
        double mean = 0;
        for (int64_t key = 0; key <= t; ++key) {
          double& weight = weights[static_cast<size_t>(key)];
          weight = std::exp(weight - largest) / sum;
          double grad_weight = 0;
          for (int64_t i = 0; i < dim; ++i) {
            const double value = v(b * length + key, k0 + i), grad = grad_out(row, q0 + i);
            result.out(row, q0 + i) += weight * value;
            result.grad_v(b * length + key, k0 + i) += weight * grad;
            grad_weight += value * grad;
          }
          grad_weights.push_back(grad_weight);
          mean += weight * grad_weight;
        }
        for (int64_t key = 0; key <= t; ++key) {
          const double grad_score =
              scale * weights[static_cast<size_t>(key)] * (grad_weights[static_cast<size_t>(key)] - mean);
          for (int64_t i = 0; i < dim; ++i) {
            result.grad_q(row, q0 + i) += grad_score * k(b * length + key, k0 + i);
            result.grad_k(b * length + key, k0 + i) += grad_score * q(row, q0 + i);
          }
        }
      }
    }
  }
  return result;
}

// Both passes of the operator and all that they need.
struct Attention {
  AttentionShape shape;
  double scale;
  Buffer q, k, v, grad_out;
  Buffer out, log_sum_exp, grad_q, grad_k, grad_v, workspace;

  // `size` is the standard deviation of queries and keys.
  Attention(const AttentionShape& s, DType dtype, int64_t padding = 0, double size = 1)
      : shape(s),
        scale(1 / std::sqrt(static_cast<double>(s.head_dim))),
        q(dtype, Normal(s.sequences * s.sequence_length, s.heads * s.head_dim, 1, size), padding),
        k(dtype, Normal(s.sequences * s.sequence_length, s.kv_heads * s.head_dim, 2, size), padding),
        v(dtype, Normal(s.sequences * s.sequence_length, s.kv_heads * s.head_dim, 3), padding),
        grad_out(dtype, Normal(s.sequences * s.sequence_length, s.heads * s.head_dim, 4), padding),
        out(dtype, Like(q), padding),
        log_sum_exp(AccumulationType(dtype), s.sequences, s.heads * s.sequence_length),
        grad_q(dtype, Like(q), padding),
        grad_k(dtype, Like(k), padding),
        grad_v(dtype, Like(v), padding),
        workspace(DType::kUInt8, 1, AttentionWorkspaceBytes(s, dtype, reference::TestStream().device())) {}

  // NaN shows any element that is left unwritten.
  static Matrix Like(const Buffer& buffer) { return {buffer.tensor().rows, buffer.tensor().columns, std::nan("")}; }

  absl::Status Forward() {
    Stream& stream = reference::TestStream();
    return AttentionForward({.shape = shape,
                             .scale = scale,
                             .q = q,
                             .k = k,
                             .v = v,
                             .out = out,
                             .log_sum_exp = log_sum_exp,
                             .workspace = workspace},
                            stream);
  }
  AttentionBackwardArgs BackwardArgs() const {
    return {.shape = shape,
            .scale = scale,
            .grad_out = grad_out,
            .q = q,
            .k = k,
            .v = v,
            .out = out,
            .log_sum_exp = log_sum_exp,
            .grad_q = grad_q,
            .grad_k = grad_k,
            .grad_v = grad_v,
            .workspace = workspace};
  }
  absl::Status Backward() { return AttentionBackward(BackwardArgs(), reference::TestStream()); }
  AttentionResult Expected() const { return Naive(shape, scale, q.Get(), k.Get(), v.Get(), grad_out.Get()); }
};

TEST(Attention, MatchesTheNaiveOneInEveryTypeAndShape) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const AttentionCase& c : kAttentionCases) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " B " << c.shape.sequences << " T " << c.shape.sequence_length
                                      << " H " << c.shape.heads << " K " << c.shape.kv_heads << " dim "
                                      << c.shape.head_dim);
      Attention attention(c.shape, dtype, c.padding);
      ASSERT_TRUE(attention.Forward().ok());
      ASSERT_TRUE(attention.Backward().ok());
      const AttentionResult expected = attention.Expected();
      ExpectAgrees("out", attention.out, expected.out, dtype);
      ExpectAgrees("log_sum_exp", attention.log_sum_exp, expected.log_sum_exp, AccumulationType(dtype));
      if (dtype == DType::kBFloat16 && c.shape.heads > c.shape.kv_heads) {
        // cuDNN rounds the contribution of each query head to bf16: where they cancel, single elements keep few digits.
        reference::ExpectAgreesAsAWhole("grad_v", attention.grad_v, expected.grad_v);
      } else {
        ExpectAgrees("grad_v", attention.grad_v, expected.grad_v, dtype);
      }
      // A softmax over one key has no gradient; only rounding is left.
      if (c.shape.sequence_length == 1) continue;
      if (dtype == DType::kBFloat16) {
        // Each is a difference of two sums, one of which went through `out`, rounded to bf16.
        reference::ExpectAgreesAsAWhole("grad_q", attention.grad_q, expected.grad_q);
        reference::ExpectAgreesAsAWhole("grad_k", attention.grad_k, expected.grad_k);
        continue;
      }
      ExpectAgrees("grad_q", attention.grad_q, expected.grad_q, dtype);
      ExpectAgrees("grad_k", attention.grad_k, expected.grad_k, dtype);
    }
  }
}

TEST(Attention, BackwardAgreesWithFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  const AttentionShape shape = ShapeOf(1, 67, 4, 2, 3);
  Attention attention(shape, DType::kFloat64);
  ASSERT_TRUE(attention.Forward().ok());
  ASSERT_TRUE(attention.Backward().ok());
  const auto numeric = [&](Buffer Attention::*input) {
    Attention probe(shape, DType::kFloat64);
    return reference::FiniteDifferences((probe.*input).Get(), [&](const Matrix& x) {
      (probe.*input).Set(x);
      EXPECT_TRUE(probe.Forward().ok());
      return reference::Dot(probe.out.Get(), probe.grad_out.Get());
    });
  };
  ExpectAgrees("grad_q", attention.grad_q.Get(), numeric(&Attention::q), 1e-6);
  ExpectAgrees("grad_k", attention.grad_k.Get(), numeric(&Attention::k), 1e-6);
  ExpectAgrees("grad_v", attention.grad_v.Get(), numeric(&Attention::v), 1e-6);
}

// exp(score) alone overflows here; the running maximum must move between blocks for the sums to stay right.
TEST(Attention, LargeScoresStayFinite) {
  for (const DType dtype : reference::SumTypes()) {
    Attention attention(ShapeOf(1, 200, 2, 1, 16), dtype, 0, 18);
    ASSERT_TRUE(attention.Forward().ok());
    ASSERT_TRUE(attention.Backward().ok());
    const AttentionResult expected = attention.Expected();
    // Scores of about a thousand carry an absolute error of a thousand times the precision.
    const double tolerance = dtype == DType::kFloat64 ? 1e-10 : 5e-3;
    ExpectAgrees("out", attention.out.Get(), expected.out, tolerance);
    ExpectAgrees("log_sum_exp", attention.log_sum_exp, expected.log_sum_exp, dtype);
    ExpectAgrees("grad_v", attention.grad_v.Get(), expected.grad_v, tolerance);
  }
}

TEST(Attention, NoTokenSeesALaterOne) {
  for (const DType dtype : reference::FloatTypes()) {
    const AttentionShape shape = ShapeOf(1, 140, 2, 1, 8);
    constexpr int64_t kChanged = 70;
    Attention attention(shape, dtype), changed(shape, dtype);
    Matrix k = changed.k.Get(), v = changed.v.Get();
    for (int64_t t = kChanged; t < shape.sequence_length; ++t) {
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        k(t, i) += 1;
        v(t, i) += 1;
      }
    }
    changed.k.Set(k);
    changed.v.Set(v);
    ASSERT_TRUE(attention.Forward().ok());
    ASSERT_TRUE(changed.Forward().ok());
    const Matrix before = attention.out.Get(), after = changed.out.Get();
    for (int64_t t = 0; t < shape.sequence_length; ++t) {
      bool same = true;
      for (int64_t i = 0; i < before.columns; ++i) same = same && before(t, i) == after(t, i);
      EXPECT_EQ(same, t < kChanged) << "token " << t;
    }
  }
}

TEST(Attention, BitsDoNotDependOnThreads) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const AttentionShape& shape : {ShapeOf(3, 130, 4, 2, 32), ShapeOf(1, 200, 1, 1, 64)}) {
      reference::ExpectSameBitsForAnyThreads([&] {
        Attention attention(shape, dtype);
        EXPECT_TRUE(attention.Forward().ok());
        EXPECT_TRUE(attention.Backward().ok());
        return attention.out.Bytes() + attention.grad_q.Bytes() + attention.grad_k.Bytes() + attention.grad_v.Bytes();
      });
    }
  }
}

// A GPU's backward pass may be taken by sequences or by heads.
TEST(Attention, SlicesGiveTheBitsOfTheWhole) {
  if (reference::OnGpu()) GTEST_SKIP() << "the kernels of the CPU show what the slices are";
  for (const DType dtype : reference::FloatTypes()) {
    const AttentionShape shape = ShapeOf(6, 70, 12, 4, 8);
    Attention whole(shape, dtype, 5);
    ASSERT_TRUE(whole.Forward().ok());
    ASSERT_TRUE(whole.Backward().ok());
    const std::vector<AttentionShape> slices = cuda::AttentionSlices(shape);
    EXPECT_EQ(slices.size(), 6u);  // 6, 3, 2 and 1 sequences, 2 and 1 key heads
    for (const AttentionShape& slice : slices) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << ": " << slice.sequences << " sequences, " << slice.kv_heads
                                      << " key heads");
      EXPECT_EQ(slice.heads, 3 * slice.kv_heads);
      Attention parts(shape, dtype, 5);
      ASSERT_TRUE(parts.Forward().ok());
      for (int64_t sequence = 0; sequence < shape.sequences; sequence += slice.sequences) {
        for (int64_t kv_head = 0; kv_head < shape.kv_heads; kv_head += slice.kv_heads) {
          ASSERT_TRUE(
              AttentionBackward(cuda::SliceOf(parts.BackwardArgs(), slice, sequence, kv_head), reference::TestStream())
                  .ok());
        }
      }
      for (Buffer Attention::*gradient : {&Attention::grad_q, &Attention::grad_k, &Attention::grad_v}) {
        EXPECT_EQ((parts.*gradient).Get().values, (whole.*gradient).Get().values);
      }
    }
  }
}

TEST(Attention, WorkspaceOfAGpuHoldsASliceOfTheDeterministicBackwardPass) {
  const auto bytes = [](const AttentionShape& shape, DType dtype = DType::kBFloat16) {
    return AttentionWorkspaceBytes(shape, dtype, Device::kCuda);
  };
  // For the 2B model cuDNN asked for 4,297,064,704 bytes for 4 sequences. One at a time has room for a quarter of that.
  EXPECT_EQ(cuda::CudnnBackwardWorkspaceBytes(ShapeOf(4, 4096, 32, 32, 128)) / (1 << 20), 4297064704 / (1 << 20) + 1);
  EXPECT_GE(bytes(ShapeOf(4, 4096, 32, 32, 128)), 4297064704 / 4);
  EXPECT_LE(bytes(ShapeOf(4, 4096, 32, 32, 128)), int64_t{5} << 28);
  // Short sequences run all at once. Long ones run some heads at a time, until even one is too much.
  EXPECT_GE(bytes(ShapeOf(8, 512, 16, 4, 64)), int64_t{2} * 8 * 16 * 512 * 512);
  EXPECT_GE(bytes(ShapeOf(1, 16384, 16, 16, 128)), int64_t{2} * 2 * 16384 * 16384);
  EXPECT_LE(bytes(ShapeOf(1, 16384, 16, 16, 128)), int64_t{5} << 28);
  EXPECT_GE(bytes(ShapeOf(1, 32768, 16, 16, 128)), int64_t{2} * 32768 * 32768);
  EXPECT_EQ(bytes(ShapeOf(1, 1 << 20, 16, 4, 128)), int64_t{64} << 20);
  EXPECT_EQ(bytes(ShapeOf(4, 4096, 16, 16, 128), DType::kFloat32), int64_t{4} * 4096 * 16 * 4);
}

// The workspaces are what some sequences, one sequence or some of its heads need, down to the least.
TEST(Attention, BackwardWithLessWorkspaceGivesTheSame) {
  const AttentionShape shape = ShapeOf(2, 132, 4, 2, 64);
  const DType dtype = DType::kBFloat16;
  const Device device = reference::TestStream().device();
  const int64_t least = LeastAttentionWorkspaceBytes(shape, dtype, device);
  Attention whole(shape, dtype, 8);
  ASSERT_TRUE(whole.Forward().ok());
  ASSERT_TRUE(whole.Backward().ok());
  std::vector<int64_t> sizes = {least};
  for (const AttentionShape& slice : cuda::AttentionSlices(shape)) {
    sizes.push_back(std::max(least, cuda::CudnnBackwardWorkspaceBytes(slice)));
  }
  for (const int64_t bytes : sizes) {
    SCOPED_TRACE(bytes);
    Attention parts(shape, dtype, 8);
    ASSERT_TRUE(parts.Forward().ok());
    const Buffer workspace(DType::kUInt8, 1, bytes);
    AttentionBackwardArgs args = parts.BackwardArgs();
    args.workspace = workspace;
    ASSERT_TRUE(AttentionBackward(args, reference::TestStream()).ok());
    reference::ExpectAgreesAsAWhole("grad_q", parts.grad_q, whole.grad_q.Get());
    reference::ExpectAgreesAsAWhole("grad_k", parts.grad_k, whole.grad_k.Get());
    reference::ExpectAgreesAsAWhole("grad_v", parts.grad_v, whole.grad_v.Get());
  }
}

TEST(Attention, WorkspaceDoesNotHoldTheWeightsOfAllPairs) {
  const int64_t one = AttentionWorkspaceBytes(ShapeOf(1, 4096, 4, 4, 16), DType::kFloat32, Device::kCpu);
  const int64_t two = AttentionWorkspaceBytes(ShapeOf(1, 8192, 4, 4, 16), DType::kFloat32, Device::kCpu);
  EXPECT_LE(two, 2 * one);
}

TEST(Attention, RejectsShapesTypesAndWorkspacesThatDisagree) {
  const AttentionShape shape = ShapeOf(1, 4, 4, 2, 6);
  Attention attention(shape, DType::kFloat32);
  ASSERT_TRUE(attention.Forward().ok());
  attention.shape.kv_heads = 3;
  EXPECT_EQ(attention.Forward().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(attention.Forward().message(), testing::HasSubstr("kv_heads 3"));
  attention.shape = ShapeOf(1, 5, 4, 2, 6);
  EXPECT_EQ(attention.Forward().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(attention.Backward().code(), absl::StatusCode::kInvalidArgument);

  Stream& stream = reference::TestStream();
  Attention other(shape, DType::kFloat32);
  const Attention wide(shape, DType::kFloat64);
  const Buffer small(DType::kUInt8, 1, 8);
  const auto forward = [&](const Tensor& k, const Tensor& workspace) {
    return AttentionForward({.shape = shape,
                             .q = other.q,
                             .k = k,
                             .v = other.v,
                             .out = other.out,
                             .log_sum_exp = other.log_sum_exp,
                             .workspace = workspace},
                            stream)
        .code();
  };
  EXPECT_EQ(forward(other.k, other.workspace), absl::StatusCode::kOk);
  EXPECT_EQ(forward(wide.k, other.workspace), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(forward(other.k, small), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace isthmus
