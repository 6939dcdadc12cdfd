// The groups that a mesh is made of.
#include <absl/status/status.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/deadline_scope.h"
#include "parallel/mesh.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

TEST(Mesh, TensorRanksAreAdjacentAndEveryRankIsInOneGroupOfEachKind) {
  const int world = World().size(), rank = World().rank();
  for (int tensor = 1; tensor <= world; ++tensor) {
    if (world % tensor != 0) continue;
    auto mesh = Mesh::Create(World(), tensor, /*data_ranks=*/0);
    ASSERT_TRUE(mesh.ok()) << mesh.status();
    EXPECT_EQ(mesh->tensor_ranks(), tensor);
    EXPECT_EQ(mesh->data_ranks(), world / tensor);
    EXPECT_EQ(mesh->tensor_rank(), rank % tensor);
    EXPECT_EQ(mesh->data_rank(), rank / tensor);
    EXPECT_EQ(mesh->tensor().name(), "tensor");
    EXPECT_EQ(mesh->data().name(), "data");

    double tensor_sum = rank, data_sum = rank;
    ASSERT_TRUE(mesh->tensor().AllReduceNumbers(absl::MakeSpan(&tensor_sum, 1)).ok());
    ASSERT_TRUE(mesh->data().AllReduceNumbers(absl::MakeSpan(&data_sum, 1)).ok());
    double tensor_expected = 0, data_expected = 0;
    for (int other = 0; other < world; ++other) {
      if (other / tensor == rank / tensor) tensor_expected += other;
      if (other % tensor == rank % tensor) data_expected += other;
    }
    EXPECT_EQ(tensor_sum, tensor_expected);
    EXPECT_EQ(data_sum, data_expected);
  }
}

TEST(Mesh, SizesThatDoNotMakeUpTheWorldAreRejectedOnEveryRank) {
  const int world = World().size();
  const auto reject = [&](int tensor, int data) { return Mesh::Create(World(), tensor, data).status(); };
  EXPECT_EQ(reject(world + 1, 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(reject(1, world + 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(reject(0, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(reject(1, world + 1).message(), HasSubstr(std::to_string(world)));
}

TEST(DeadlineScope, EndsWithTheDeadlineThatWasThereBefore) {
  auto mesh = Mesh::Create(World(), /*tensor_ranks=*/1, /*data_ranks=*/0, Stream(), absl::Minutes(3));
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  EXPECT_EQ(mesh->deadline(), absl::Minutes(3));
  mesh->set_deadline(absl::Minutes(1));
  const auto leave_early = [&] {
    const DeadlineScope outer(*mesh, absl::Minutes(10));
    {
      const DeadlineScope inner(*mesh, absl::Minutes(20));
      EXPECT_EQ(mesh->deadline(), absl::Minutes(20));
    }
    EXPECT_EQ(mesh->deadline(), absl::Minutes(10));
    return absl::InternalError("left early");
  };
  EXPECT_FALSE(leave_early().ok());
  EXPECT_EQ(mesh->deadline(), absl::Minutes(1));
  World().set_deadline(absl::Minutes(30));
}

TEST(DeadlineScope, HoldsForACollectiveThatARankComesLateTo) {
  auto mesh = Mesh::Create(World(), /*tensor_ranks=*/1, /*data_ranks=*/0);
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  mesh->set_deadline(absl::Milliseconds(1));
  {
    const DeadlineScope patience(*mesh, absl::Minutes(30));
    if (mesh->data_rank() == 0) absl::SleepFor(absl::Milliseconds(100));
    EXPECT_TRUE(mesh->data().Barrier().ok());
  }
  World().set_deadline(absl::Minutes(30));
}

}  // namespace
}  // namespace isthmus::testing
