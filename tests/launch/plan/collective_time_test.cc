#include "launch/plan/collective_time.h"

#include <gtest/gtest.h>

namespace isthmus {
namespace {

using Collective = CollectiveKind;

constexpr int64_t kLarge = int64_t{8} << 30;

LinkSpec Links() {
  return {.devices_per_node = 8,
          .device_bytes = 400e9,
          .node_bytes = 100e9,
          .sustained = 0.5,
          .start_seconds = 10e-6,
          .device_hop_seconds = 2e-6,
          .node_hop_seconds = 20e-6};
}

// nccl-tests compute it in this way from a measured time.
double BusBandwidth(Collective kind, const GroupPlacement& group) {
  const double factor = (kind == Collective::kAllReduce ? 2.0 : 1.0) * (group.ranks - 1) / group.ranks;
  return factor * static_cast<double>(kLarge) / CollectiveSeconds(kind, kLarge, group, Links());
}

TEST(CollectiveTime, OfOneRankIsNothing) {
  EXPECT_EQ(CollectiveSeconds(Collective::kAllReduce, kLarge, {.ranks = 1}, Links()), 0);
}

TEST(CollectiveTime, LargeOnesReachTheSlowestLinksBandwidth) {
  for (const Collective kind : {Collective::kAllReduce, Collective::kReduceScatter, Collective::kAllGather}) {
    EXPECT_NEAR(BusBandwidth(kind, {.ranks = 8, .nodes = 1}), 200e9, 1e9);
    EXPECT_NEAR(BusBandwidth(kind, {.ranks = 64, .nodes = 8}), 50e9, 1e9);
    // Four groups share the node's network.
    EXPECT_NEAR(BusBandwidth(kind, {.ranks = 16, .nodes = 8, .sharing = 4}), 12.5e9, 1e8);
  }
}

TEST(CollectiveTime, SmallOnesTakeTheirHops) {
  // Rings have seven hops within a node; with two nodes, six within and one between... each way.
  EXPECT_DOUBLE_EQ(CollectiveSeconds(Collective::kAllGather, 0, {.ranks = 8, .nodes = 1}, Links()), 10e-6 + 7 * 2e-6);
  EXPECT_DOUBLE_EQ(CollectiveSeconds(Collective::kReduceScatter, 0, {.ranks = 8, .nodes = 2}, Links()),
                   10e-6 + 6 * 2e-6 + 20e-6);
  // An all-reduce over many nodes goes through a tree: 2 (7 hops within a node + log2(128) between nodes).
  EXPECT_DOUBLE_EQ(CollectiveSeconds(Collective::kAllReduce, 0, {.ranks = 1024, .nodes = 128}, Links()),
                   10e-6 + 2 * (7 * 2e-6 + 7 * 20e-6));
}

TEST(GroupPlacement, TensorRanksAreAdjacent) {
  const auto expect = [](const GroupPlacement& group, int ranks, int nodes, int sharing) {
    EXPECT_EQ(group.ranks, ranks);
    EXPECT_EQ(group.nodes, nodes);
    EXPECT_EQ(group.sharing, sharing);
  };
  expect(GroupPlacement::Of("tensor", 4, 16, 8), 4, 1, 1);
  expect(GroupPlacement::Of("data", 4, 16, 8), 16, 8, 4);
  expect(GroupPlacement::Of("data", 1, 8, 8), 8, 1, 1);
  expect(GroupPlacement::Of("data", 1, 12, 8), 12, 2, 1);
  expect(GroupPlacement::Of("tensor", 16, 4, 8), 16, 2, 1);
  expect(GroupPlacement::Of("data", 16, 4, 8), 4, 4, 8);
}

}  // namespace
}  // namespace isthmus
