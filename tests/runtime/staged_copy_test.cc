// Copies that the host takes later hold what was there when they were started.
#include "runtime/staged_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace isthmus {
namespace {

using ::testing::ElementsAre;

std::vector<double> NumbersOf(const Tensor& tensor) {
  return {tensor.As<double>(), tensor.As<double>() + tensor.size()};
}

TEST(StagedCopy, HoldsWhatWasThereWhenItStarted) {
  Stream stream;
  std::vector<double> first = {1, 2}, second = {3, 4, 5};
  const Tensor one(first.data(), DType::kFloat64, 1, 2), two(second.data(), DType::kFloat64, 3, 1);
  StagedCopy copy;
  ASSERT_TRUE(copy.Wait().ok());
  EXPECT_TRUE(copy.Wait()->empty());
  ASSERT_TRUE(copy.Start({one, two}, stream).ok());
  first = {-1, -1};
  auto copies = copy.Wait();
  ASSERT_TRUE(copies.ok());
  ASSERT_EQ(copies->size(), 2u);
  EXPECT_THAT(NumbersOf((*copies)[0]), ElementsAre(1, 2));
  EXPECT_THAT(NumbersOf((*copies)[1]), ElementsAre(3, 4, 5));
  EXPECT_EQ((*copies)[1].rows, 3);

  ASSERT_TRUE(copy.Start({one}, stream).ok());
  copies = copy.Wait();
  ASSERT_TRUE(copies.ok());
  ASSERT_EQ(copies->size(), 1u);
  EXPECT_THAT(NumbersOf((*copies)[0]), ElementsAre(-1, -1));
}

}  // namespace
}  // namespace isthmus
