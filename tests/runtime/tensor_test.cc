#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

namespace isthmus {
namespace {

// Element (r, c) of the 4×6 matrix below is 10 r + c.
class TensorView : public ::testing::Test {
 protected:
  TensorView() : matrix_(4 * 6) {
    for (int r = 0; r < 4; ++r) {
      for (int c = 0; c < 6; ++c) matrix_[static_cast<size_t>(r * 6 + c)] = static_cast<float>(10 * r + c);
    }
  }
  Tensor View() { return Tensor(matrix_.data(), DType::kFloat32, 4, 6); }
  std::vector<float> matrix_;
};

TEST_F(TensorView, KnowsItsSizeAndWhetherItIsThere) {
  EXPECT_FALSE(Tensor().defined());
  EXPECT_TRUE(View().defined());
  EXPECT_EQ(View().size(), 24);
  EXPECT_EQ(View().bytes(), 96);
  EXPECT_TRUE(View().contiguous());
}

TEST_F(TensorView, SlicesOfSlicesReachTheRightElements) {
  const Tensor slice = View().RowSlice(1, 3).ColumnSlice(2, 3);
  ASSERT_EQ(slice.rows, 3);
  ASSERT_EQ(slice.columns, 3);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 3; ++c) EXPECT_EQ(slice.Row<float>(r)[c], static_cast<float>(10 * (r + 1) + c + 2));
  }
  const Tensor swapped = View().ColumnSlice(2, 3).RowSlice(1, 3);
  EXPECT_EQ(swapped.data, slice.data);
  EXPECT_EQ(swapped.row_stride, slice.row_stride);
}

TEST_F(TensorView, IsContiguousOnlyWhereRowsTouch) {
  EXPECT_FALSE(View().ColumnSlice(0, 5).contiguous());
  EXPECT_TRUE(View().ColumnSlice(0, 6).contiguous());
  EXPECT_TRUE(View().ColumnSlice(1, 2).RowSlice(3, 1).contiguous());  // one row touches no other
  EXPECT_TRUE(View().RowSlice(1, 2).contiguous());
}

TEST_F(TensorView, ReshapesToTheSameElementsInOrder) {
  const Tensor reshaped = View().Reshape(8, 3);
  EXPECT_EQ(reshaped.row_stride, 3);
  for (int64_t i = 0; i < 24; ++i) EXPECT_EQ(reshaped.Row<float>(i / 3)[i % 3], matrix_[static_cast<size_t>(i)]);
}

TEST_F(TensorView, WritesThroughToItsOwner) {
  View().RowSlice(2, 1).ColumnSlice(4, 1).As<float>()[0] = -1.0f;
  EXPECT_EQ(matrix_[2 * 6 + 4], -1.0f);
}

TEST_F(TensorView, OfConstNumbersCanOnlyBeRead) {
  static_assert(std::is_convertible_v<Tensor, ConstTensor>);
  static_assert(!std::is_constructible_v<Tensor, ConstTensor>);
  static_assert(std::is_same_v<decltype(ConstTensor().As<float>()), const float*>);
  static_assert(std::is_same_v<decltype(ConstTensor().Row<float>(0)), const float*>);
  static_assert(std::is_same_v<decltype(ConstTensor().RowSlice(0, 0)), ConstTensor>);
  const ConstTensor view = View().ColumnSlice(1, 4);
  EXPECT_EQ(view.Describe(), View().ColumnSlice(1, 4).Describe());
  EXPECT_EQ(view.RowSlice(2, 2).ColumnSlice(3, 1).Row<float>(1)[0], 34.0f);
  const std::vector<double> numbers = {1, 2};
  EXPECT_EQ(ConstTensor(numbers.data(), DType::kFloat64, 1, 2).As<double>()[1], 2);
}

TEST_F(TensorView, StepsByTheSizeOfItsElements) {
  std::vector<uint8_t> bytes(64);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  for (const DType dtype : {DType::kUInt8, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    const Tensor slice = Tensor(bytes.data(), dtype, 2, 4).RowSlice(1, 1).ColumnSlice(3, 1);
    EXPECT_EQ(*static_cast<uint8_t*>(slice.data), 7 * SizeOf(dtype)) << Name(dtype);
  }
}

TEST_F(TensorView, DescribesItselfForErrorMessages) {
  EXPECT_EQ(View().Describe(), "fp32 [4, 6]");
  EXPECT_EQ(View().ColumnSlice(0, 5).Describe(), "fp32 [4, 5] with row stride 6");
}

}  // namespace
}  // namespace isthmus
