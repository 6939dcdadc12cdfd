// ranks: 1 2
// The steps between occurrences of tokens, over all data ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/train/token_gaps.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Each data rank has one of the tokens of a step, or both have the first.
void AddTokens(TokenGaps& gaps, const Mesh& mesh, int64_t step, std::vector<int32_t> tokens) {
  const auto rank = static_cast<size_t>(mesh.data_rank());
  if (mesh.data_ranks() > 1) tokens = {tokens[rank % tokens.size()]};
  ASSERT_TRUE(gaps.AddStep(step, Tensor(tokens.data(), DType::kInt32, 1, static_cast<int64_t>(tokens.size()))).ok());
}

Mesh DataMesh() {
  auto mesh = Mesh::Create(World(), 1, World().size());
  EXPECT_TRUE(mesh.ok()) << mesh.status();
  return *std::move(mesh);
}

TEST(TokenGaps, AreMeansOverOccurrences) {
  const Mesh mesh = DataMesh();
  TokenGaps gaps(7, mesh);
  // Token 0 comes in every step, token 1 in steps 2, 5 and 40, token 2 in steps 1 and 41, token 3 once.
  for (int64_t step = 1; step <= 41; ++step) {
    const int32_t other = step == 2 || step == 5 || step == 40 ? 1 : step == 1 || step == 41 ? 2 : step == 20 ? 3 : 0;
    AddTokens(gaps, mesh, step, {0, other});
  }
  proto::TokenGapRecord record;
  ASSERT_TRUE(gaps.Fill(0.95, record).ok());
  if (World().rank() != 0) {
    EXPECT_FALSE(record.has_tokens());
    return;
  }
  EXPECT_EQ(record.tokens(), 3);
  EXPECT_EQ(record.median_steps(), 19);
  EXPECT_EQ(record.ninth_decile_steps(), 40);
  EXPECT_DOUBLE_EQ(record.median_kappa(), 19 * (1 - 0.95));
  EXPECT_DOUBLE_EQ(record.ninth_decile_kappa(), 40 * (1 - 0.95));
  EXPECT_EQ(record.steps().sum(), 1 + 19 + 40);
  ASSERT_EQ(record.steps().counts_size(), record.steps().bounds_size() + 1);
  EXPECT_THAT(std::vector<int64_t>(record.steps().counts().begin(), record.steps().counts().begin() + 8),
              ElementsAre(1, 0, 0, 0, 0, 1, 1, 0));  // up to 1, 2, 4, 8, 16, 32, 64, 128 steps
}

TEST(TokenGaps, WithoutASecondMomentThereIsNoKappa) {
  const Mesh mesh = DataMesh();
  TokenGaps gaps(3, mesh);
  proto::TokenGapRecord none, some;
  ASSERT_TRUE(gaps.Fill(0.95, none).ok());
  EXPECT_FALSE(none.has_median_steps());
  AddTokens(gaps, mesh, 1, {1, 1});
  AddTokens(gaps, mesh, 2, {1, 1});
  ASSERT_TRUE(gaps.Fill(std::nullopt, some).ok());
  EXPECT_EQ(some.has_median_steps(), World().rank() == 0);
  EXPECT_FALSE(some.has_median_kappa());
}

TEST(TokenGaps, GoOnFromAState) {
  const Mesh mesh = DataMesh();
  TokenGaps whole(4, mesh), first(4, mesh), second(4, mesh);
  const auto add = [&](TokenGaps& gaps, int64_t step) {
    AddTokens(gaps, mesh, step, {static_cast<int32_t>(step % 3 == 0), static_cast<int32_t>(step % 5 == 0 ? 2 : 0)});
  };
  for (int64_t step = 1; step <= 50; ++step) add(whole, step);
  for (int64_t step = 1; step <= 37; ++step) add(first, step);
  auto state = first.State();
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->size(), World().rank() == 0 ? 12u : 0u);
  state->resize(12);
  ASSERT_TRUE(World().Broadcast(Tensor(state->data(), DType::kUInt8, 1, 12 * sizeof(int64_t)), 0).ok());
  EXPECT_TRUE(TokenGaps::CheckState(*state, 37).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(TokenGaps::CheckState(*state, 35)));
  AddTokens(second, mesh, 40, {3, 3});  // forgotten
  second.Restore(*state, 37);
  for (int64_t step = 38; step <= 50; ++step) add(second, step);
  proto::TokenGapRecord expected, found;
  ASSERT_TRUE(whole.Fill(0.95, expected).ok());
  ASSERT_TRUE(second.Fill(0.95, found).ok());
  EXPECT_EQ(found.SerializeAsString(), expected.SerializeAsString());
}

TEST(TokenGaps, RefuseAnImpossibleState) {
  EXPECT_TRUE(TokenGaps::CheckState({0, 0, 0, 3, 3, 1, 3, 9, 7}, 9).ok());
  for (const std::vector<int64_t>& numbers : std::vector<std::vector<int64_t>>{
           {0, 3, 1}, {3, 2, 1}, {3, 10, 2}, {3, 9, 8}, {3, 9, 1}, {3, 3, 0}, {-1, 3, 2}, {0, 0, 1}}) {
    std::vector<int64_t> state = {0, 0, 0};
    state.insert(state.end(), numbers.begin(), numbers.end());
    const absl::Status status = TokenGaps::CheckState(state, 9);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("token 1 "));
  }
}

TEST(TokenGaps, BeginAnewWhenTrainingGoesBack) {
  const Mesh mesh = DataMesh();
  TokenGaps gaps(3, mesh);
  AddTokens(gaps, mesh, 10, {1, 2});
  proto::TokenGapRecord before, after;
  ASSERT_TRUE(gaps.Fill(0.95, before).ok());
  AddTokens(gaps, mesh, 8, {1, 2});
  AddTokens(gaps, mesh, 9, {1, 1});
  ASSERT_TRUE(gaps.Fill(0.95, after).ok());
  if (World().rank() != 0) return;
  EXPECT_EQ(before.tokens(), 0);
  EXPECT_EQ(after.tokens(), 1);
  EXPECT_EQ(after.median_steps(), 1);
}

}  // namespace
}  // namespace isthmus::testing
