#include "ops/fp8_matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/device.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct Fp8MatmulShape {
  int64_t m, n, k, padding;  // padding in bytes
};
const std::vector<Fp8MatmulShape> kFp8MatmulShapes = {
    {16, 16, 16, 0}, {48, 32, 64, 16}, {16, 208, 512, 0}, {144, 80, 272, 32}, {256, 128, 1024, 0}};

struct Types {
  DType a, b;
};
constexpr Types kForward = {DType::kFloat8E4M3, DType::kFloat8E4M3};
constexpr Types kAllTypes[] = {
    kForward, {DType::kFloat8E5M2, DType::kFloat8E4M3}, {DType::kFloat8E4M3, DType::kFloat8E5M2}};

// Holds quantised operands of about unit size after their scales have been undone.
struct Fp8Operands {
  static constexpr double kAInverse = 0.125, kBInverse = 0x1p-10;
  Buffer a, b, a_inverse, b_inverse, workspace;

  Fp8Operands(const Types& types, const Fp8MatmulShape& shape)
      : a(types.a, Normal(shape.m, shape.k, 1, 1 / kAInverse), shape.padding),
        b(types.b, Normal(shape.n, shape.k, 2, 0.25 / kBInverse), shape.padding),
        a_inverse(DType::kFloat32, Matrix(1, 1, kAInverse)),
        b_inverse(DType::kFloat32, Matrix(1, 1, kBInverse)),
        workspace(DType::kUInt8, 1,
                  Fp8MatmulWorkspaceBytes(shape.m, shape.n, shape.k, reference::TestStream().device())) {}

  // Computes in fp64, from the numbers that the operands hold.
  Matrix Expected() const {
    Matrix c = reference::Product(a.Get(), reference::Transpose(b.Get()));
    for (double& value : c.values) value *= kAInverse * kBInverse;
    return c;
  }
  Fp8MatmulArgs Args(const Tensor& c, bool accumulate = false) const {
    return {.a = a,
            .b = b,
            .c = c,
            .a_inverse = a_inverse,
            .b_inverse = b_inverse,
            .workspace = workspace,
            .accumulate = accumulate};
  }
};

// GPUs add 8-bit products in fewer bits than fp32 has, for a while even without fast_sums.
double SumTolerance() { return reference::OnGpu() ? 5e-3 : 1e-5; }

class Fp8MatmulTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!reference::OnGpu()) return;
    const auto device = StreamDevice(reference::TestStream());
    ASSERT_TRUE(device.ok()) << device.status();
    if (!DoesFp8(device->major, device->minor)) GTEST_SKIP() << device->name << " has no 8-bit products";
  }

  static void ForAll(const std::function<void(const Fp8MatmulShape&, const Fp8Operands&)>& check) {
    for (const Types& types : kAllTypes) {
      for (const Fp8MatmulShape& shape : kFp8MatmulShapes) {
        SCOPED_TRACE(testing::Message() << Name(types.a) << " · " << Name(types.b) << " M " << shape.m << " N "
                                        << shape.n << " K " << shape.k);
        check(shape, Fp8Operands(types, shape));
      }
    }
  }
};

TEST_F(Fp8MatmulTest, MatchesReferenceInEveryPairOfTypes) {
  ForAll([](const Fp8MatmulShape& shape, const Fp8Operands& operands) {
    const Matrix expected = operands.Expected();
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
      const Buffer c(type, Matrix(shape.m, shape.n, std::nan("")), shape.padding / SizeOf(type));
      ASSERT_TRUE(Fp8Matmul(operands.Args(c), reference::TestStream()).ok());
      ExpectAgrees("c", c.Get(), expected, type == DType::kFloat32 ? SumTolerance() : reference::Tolerance(type));
      EXPECT_TRUE(c.PaddingUntouched());
    }
  });
}

TEST_F(Fp8MatmulTest, AccumulatesInFp32) {
  ForAll([](const Fp8MatmulShape& shape, const Fp8Operands& operands) {
    const Buffer c(DType::kFloat32, Normal(shape.m, shape.n, 3));
    Matrix expected = operands.Expected();
    const Matrix before = c.Get();
    for (size_t i = 0; i < expected.values.size(); ++i) expected.values[i] += before.values[i];
    ASSERT_TRUE(Fp8Matmul(operands.Args(c, /*accumulate=*/true), reference::TestStream()).ok());
    ExpectAgrees("c", c.Get(), expected, SumTolerance());
  });
}

TEST_F(Fp8MatmulTest, FastSumsStayNear) {
  const Fp8Operands operands(kForward, kFp8MatmulShapes.back());
  const Buffer c(DType::kFloat32, kFp8MatmulShapes.back().m, kFp8MatmulShapes.back().n);
  Fp8MatmulArgs args = operands.Args(c);
  args.fast_sums = true;
  ASSERT_TRUE(Fp8Matmul(args, reference::TestStream()).ok());
  ExpectAgrees("c", c.Get(), operands.Expected(), 2e-2);
}

TEST_F(Fp8MatmulTest, NaNOfAnOperandAndOfAScaleReachesTheResult) {
  const Fp8MatmulShape shape = {32, 16, 48, 0};
  const Fp8Operands operands(kForward, shape);
  const Buffer c(DType::kBFloat16, shape.m, shape.n);
  Matrix left = operands.a.Get();
  left(5, 47) = std::nan("");
  const Buffer a(kForward.a, left);
  Fp8MatmulArgs args = operands.Args(c);
  args.a = a;
  ASSERT_TRUE(Fp8Matmul(args, reference::TestStream()).ok());
  const Matrix found = c.Get();
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t column = 0; column < shape.n; ++column) EXPECT_EQ(std::isnan(found(row, column)), row == 5);
  }
  for (const bool first : {true, false}) {
    const Buffer inverse(DType::kFloat32, Matrix(1, 1, std::nan("")));
    args = operands.Args(c);
    (first ? args.a_inverse : args.b_inverse) = inverse;
    ASSERT_TRUE(Fp8Matmul(args, reference::TestStream()).ok());
    for (const double value : c.Get().values) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_F(Fp8MatmulTest, SameThreadsGiveTheSameBits) {
  const Fp8Operands operands(kAllTypes[1], kFp8MatmulShapes.back());
  const auto run = [&] {
    const Buffer c(DType::kFloat32, kFp8MatmulShapes.back().m, kFp8MatmulShapes.back().n);
    EXPECT_TRUE(Fp8Matmul(operands.Args(c, /*accumulate=*/true), reference::TestStream()).ok());
    return c.Bytes();
  };
  EXPECT_TRUE(run() == run());
}

TEST_F(Fp8MatmulTest, RejectsShapesAndTypesThatDisagree) {
  const Fp8MatmulShape shape = {16, 32, 48, 0};
  const Fp8Operands operands(kForward, shape);
  const Buffer c(DType::kFloat32, 16, 32);
  const auto rejects = [&](const std::function<void(Fp8MatmulArgs&)>& change) {
    Fp8MatmulArgs args = operands.Args(c);
    change(args);
    return Fp8Matmul(args, reference::TestStream()).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(rejects([](auto&) {}));
  const Buffer wide(DType::kFloat8E5M2, 16, 48), other(DType::kFloat8E5M2, 32, 48), bytes(DType::kUInt8, 16, 48);
  EXPECT_FALSE(rejects([&](auto& args) { args.a = wide; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.a = wide, args.b = other; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.a = bytes; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.b = args.a; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.a.columns = 32; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.a_inverse = Tensor(); }));
  EXPECT_TRUE(rejects([&](auto& args) { args.a.data = args.a.template As<char>() + 8; }));
  const Buffer narrow(DType::kBFloat16, 16, 32);
  EXPECT_FALSE(rejects([&](auto& args) { args.c = narrow; }));
  EXPECT_TRUE(rejects([&](auto& args) { args.c = narrow, args.accumulate = true; }));
  const Fp8Operands odd(kForward, {16, 32, 40, 0});
  const absl::Status status = Fp8Matmul(odd.Args(c), reference::TestStream());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), testing::HasSubstr("fp8_e4m3 [16, 40]"));
  EXPECT_THAT(status.message(), testing::HasSubstr("multiples of 16"));
  if (odd.workspace.tensor().size() == 0) return;
  EXPECT_TRUE(rejects([](auto& args) { args.workspace = Tensor(); }));
}

}  // namespace
}  // namespace isthmus
