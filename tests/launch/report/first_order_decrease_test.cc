// Shares of the first-order decrease follow from sums over the same records, whatever parts a run has.
#include "launch/report/first_order_decrease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isthmus::report {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Adds a record of 100 tokens for each value.
void AddDecrease(Run& run, const std::string& key, const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    run.figures[key].Add(100 * static_cast<double>(i + 1), static_cast<double>(i + 1), values[i]);
  }
}

TEST(FirstOrderDecrease, SharesAreOfMovingMeans) {
  report::Run run;
  std::vector<double> head, blocks, embedding;
  for (int i = 0; i < 40; ++i) {
    head.push_back(3 + i % 2);  // the mean of any ten in a row is 3.5
    blocks.push_back(5);
    embedding.push_back(i < 20 ? 1.5 : -0.5);
  }
  AddDecrease(run, PartDecreaseKey("head"), head);
  AddDecrease(run, PartDecreaseKey("blocks"), blocks);
  AddDecrease(run, PartDecreaseKey("embedding"), embedding);
  const auto shares = DecreaseShares(run, PartDecreaseKey("head"));
  ASSERT_EQ(shares.size(), 40u);
  EXPECT_NEAR(shares[0].value, 3 / 9.5, 1e-12);
  EXPECT_NEAR(shares[15].value, 3.5 / 10, 1e-12);
  EXPECT_NEAR(shares[39].value, 3.5 / 8, 1e-12);
  // A point stands at the centre of its ten records.
  EXPECT_NEAR(shares[39].tokens, 3550, 1e-9);
  EXPECT_NEAR(DecreaseShares(run, PartDecreaseKey("embedding"))[39].value, -0.5 / 8, 1e-12);
  EXPECT_NEAR(LastDecreaseShare(run, PartDecreaseKey("blocks")), 5 / 8.0, 1e-12);
}

TEST(FirstOrderDecrease, PartsHaveAnOrderAndGroupsAreOfTheSameWhole) {
  report::Run run;
  for (const char* part : {"adapter", "blocks", "embedding", "head"}) AddDecrease(run, PartDecreaseKey(part), {1});
  AddDecrease(run, GroupDecreaseKey("rows"), {0.5});
  run.figures["groups/rows/learning_rate"].Add(100, 1, 0.1);
  EXPECT_THAT(UpdatedParts(run), ElementsAre("head", "blocks", "embedding", "adapter"));
  EXPECT_THAT(UpdatedGroups(run), ElementsAre("rows"));
  EXPECT_EQ(LastDecreaseShare(run, GroupDecreaseKey("rows")), 0.125);
}

TEST(FirstOrderDecrease, ThereIsNoShareOfALossThatDoesNotFallOrIsNotWhollyKnown) {
  report::Run rising;
  AddDecrease(rising, PartDecreaseKey("head"), {1, 1});
  AddDecrease(rising, PartDecreaseKey("blocks"), {-2, -2});
  EXPECT_THAT(DecreaseShares(rising, PartDecreaseKey("head")), IsEmpty());
  EXPECT_TRUE(std::isnan(LastDecreaseShare(rising, PartDecreaseKey("head"))));
  report::Run partly;
  AddDecrease(partly, PartDecreaseKey("head"), {1, 1});
  AddDecrease(partly, PartDecreaseKey("blocks"), {1});
  const auto shares = DecreaseShares(partly, PartDecreaseKey("head"));
  ASSERT_EQ(shares.size(), 1u);
  EXPECT_EQ(shares[0].value, 0.5);
  EXPECT_TRUE(std::isnan(LastDecreaseShare(report::Run(), PartDecreaseKey("head"))));
}

}  // namespace
}  // namespace isthmus::report
