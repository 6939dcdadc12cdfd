#include "launch/plan/collective_time.h"

#include <algorithm>
#include <cmath>

namespace isthmus {

GroupPlacement GroupPlacement::Of(absl::string_view group, int tensor_ranks, int data_ranks, int devices_per_node) {
  const auto nodes_for = [&](int devices) { return (devices + devices_per_node - 1) / devices_per_node; };
  if (group == "tensor") return {tensor_ranks, nodes_for(tensor_ranks), 1};
  const int nodes = std::min(nodes_for(tensor_ranks * data_ranks), data_ranks);
  return {data_ranks, nodes, std::min(tensor_ranks, devices_per_node)};
}

double CollectiveSeconds(CollectiveKind kind, int64_t bytes, const GroupPlacement& group, const LinkSpec& links) {
  if (group.ranks <= 1) return 0;
  const double passes = kind == CollectiveKind::kAllReduce ? 2 : 1;
  const double ranks = group.ranks, nodes = group.nodes, size = static_cast<double>(bytes);
  double bandwidth = links.device_bytes;
  if (group.nodes > 1) bandwidth = std::min(bandwidth, links.node_bytes / group.sharing);
  bandwidth *= links.sustained;
  const double ring_hops = (ranks - nodes) * links.device_hop_seconds + (nodes - 1) * links.node_hop_seconds;
  const double ring = passes * (ring_hops + (ranks - 1) / ranks * size / bandwidth);
  if (kind != CollectiveKind::kAllReduce) return links.start_seconds + ring;
  const double tree_hops =
      (ranks / nodes - 1) * links.device_hop_seconds + std::ceil(std::log2(nodes)) * links.node_hop_seconds;
  const double tree = passes * (tree_hops + size / (0.9 * bandwidth));
  return links.start_seconds + std::min(ring, tree);
}

}  // namespace isthmus
