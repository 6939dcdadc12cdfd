#include "runtime/data/balanced_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "runtime/philox.h"

namespace isthmus {
namespace {

double ScoreOf(const std::vector<float>& scores, size_t columns, const std::vector<int32_t>& column_of) {
  double sum = 0;
  for (size_t row = 0; row < column_of.size(); ++row) {
    sum += scores[row * columns + static_cast<size_t>(column_of[row])];
  }
  return sum;
}

bool Fits(const std::vector<int32_t>& column_of, std::vector<int64_t> room) {
  return std::all_of(column_of.begin(), column_of.end(),
                     [&](int32_t column) { return column >= 0 && --room.at(static_cast<size_t>(column)) >= 0; });
}

// Tries every assignment.
double BestScore(const std::vector<float>& scores, std::vector<int64_t> room) {
  std::vector<int32_t> column_of;
  for (size_t column = 0; column < room.size(); ++column) {
    column_of.insert(column_of.end(), static_cast<size_t>(room[column]), static_cast<int32_t>(column));
  }
  double best = -1e300;
  do {
    best = std::max(best, ScoreOf(scores, room.size(), column_of));
  } while (std::next_permutation(column_of.begin(), column_of.end()));
  return best;
}

// Each row takes the best column that has room.
std::vector<int32_t> InTurn(const std::vector<float>& scores, std::vector<int64_t> room) {
  std::vector<int32_t> column_of;
  for (size_t row = 0; row < scores.size() / room.size(); ++row) {
    size_t best = room.size();
    for (size_t column = 0; column < room.size(); ++column) {
      if (room[column] == 0) continue;
      if (best == room.size() || scores[row * room.size() + column] > scores[row * room.size() + best]) best = column;
    }
    --room[best];
    column_of.push_back(static_cast<int32_t>(best));
  }
  return column_of;
}

std::vector<float> RandomScores(size_t count, uint32_t stream) {
  std::vector<float> scores(count);
  for (size_t i = 0; i < count; ++i) {
    scores[i] = static_cast<float>(100 * Philox::Normal(1, RandomPurpose::kTest, stream, i));
  }
  return scores;
}

TEST(BalancedAssignment, IsWithinTheToleranceOfTheBest) {
  constexpr double kTolerance = 0.01;
  int worse_in_turn = 0;
  for (const std::vector<int64_t>& room :
       std::vector<std::vector<int64_t>>{{2, 2, 2, 2}, {3, 3, 2}, {1, 0, 4, 3}, {1, 1, 1, 1, 1, 1, 1, 1}, {8}}) {
    for (uint32_t stream = 0; stream < 40; ++stream) {
      const std::vector<float> scores = RandomScores(8 * room.size(), stream);
      const double best = BestScore(scores, room);
      const std::vector<int32_t> found = AssignBalanced(scores, room, kTolerance);
      ASSERT_EQ(found.size(), 8u);
      EXPECT_TRUE(Fits(found, room));
      EXPECT_GE(ScoreOf(scores, room.size(), found), best - 8 * kTolerance - 1e-3);
      worse_in_turn += ScoreOf(scores, room.size(), InTurn(scores, room)) < best - 8 * kTolerance - 1e-3;
    }
  }
  // The bound is one that rows in turn don't keep.
  EXPECT_GT(worse_in_turn, 80);
}

TEST(BalancedAssignment, EqualAndHugeScoresEndAndFit) {
  for (const float scale : {0.0f, 1e-30f, 1e30f}) {
    std::vector<float> scores = RandomScores(1000 * 7, 1);
    for (float& score : scores) score *= scale;
    const std::vector<int64_t> room = {143, 143, 143, 143, 143, 143, 142};
    // A price rises by the tolerance at least. With so small a one it never settles.
    for (const double tolerance : {1e-6, 1.0}) EXPECT_TRUE(Fits(AssignBalanced(scores, room, tolerance), room));
  }
}

TEST(BalancedAssignment, RoomMayBeLeft) {
  const std::vector<float> scores = {3, 1, 0, 3, 1, 0, 3, 1, 0};
  EXPECT_TRUE(Fits(AssignBalanced(scores, {5, 5, 5}, 0.1), {5, 0, 0}));
  EXPECT_TRUE(Fits(AssignBalanced(scores, {2, 5, 5}, 0.1), {2, 1, 0}));
  EXPECT_TRUE(AssignBalanced({}, {2, 5}, 0.1).empty());
}

}  // namespace
}  // namespace isthmus
