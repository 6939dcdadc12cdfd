// Estimates the time of a collective, by latency and bandwidth.
//
// A ring moves n bytes over p ranks on m nodes. The source is Thakur, Rabenseifner, Gropp 2005, "Optimization of
// collective communication operations in MPICH"; the terms are as in NCCL's src/graph/tuning.cc:
//
//   t = start + s ((p - m) device_hop + (m - 1) node_hop) + s (p - 1)/p · n / bandwidth
//   s = 2 for an all-reduce (a reduce-scatter and an all-gather), 1 for either of them
//
// The bus bandwidth that nccl-tests report is n (p - 1)/p · s / t. An all-reduce also has a tree: start + 2 ((p/m - 1)
// device_hop + log2(m) node_hop) + 2 n / (0.9 bandwidth). The faster of both counts. The bandwidth is that of a
// device's links, or of the node's network. Groups that cross the network at the same time share it.
#ifndef ISTHMUS_LAUNCH_PLAN_COLLECTIVE_TIME_H_
#define ISTHMUS_LAUNCH_PLAN_COLLECTIVE_TIME_H_

#include <absl/strings/string_view.h>

#include <cstdint>

#include "launch/plan/machine.h"
#include "runtime/work_recorder.h"

namespace isthmus {

// Says where the ranks of a group are.
struct GroupPlacement {
  int ranks = 1;
  int nodes = 1;
  int sharing = 1;  // groups of this kind on a node, which use its network at the same time

  // `group` is "tensor" or "data", of a mesh whose tensor ranks are adjacent.
  static GroupPlacement Of(absl::string_view group, int tensor_ranks, int data_ranks, int devices_per_node);
};

double CollectiveSeconds(CollectiveKind kind, int64_t bytes, const GroupPlacement& group, const LinkSpec& links);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_COLLECTIVE_TIME_H_
