#include "ops/cuda/cudnn/attention.h"

#include <absl/strings/str_cat.h>
#include <cudnn.h>
#include <cudnn_frontend.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ops/cuda/attention_slices.h"
#include "ops/cuda/library_versions.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

namespace fe = cudnn_frontend;

// Names of the tensors in a graph.
enum Id : int64_t { kQ = 1, kK, kV, kOut, kLogSumExp, kGradOut, kGradQ, kGradK, kGradV };

// A graph with its plan; `reason` says why there is none.
struct Plan {
  std::shared_ptr<fe::graph::Graph> graph;
  int64_t workspace_bytes = 0;
  std::string reason;
};

// A view [B, heads, T, head_dim] of a tensor whose row b·T + t holds the heads one after another.
fe::graph::Tensor_attributes HeadsOf(const char* name, Id id, const ConstTensor& tensor, const AttentionShape& shape,
                                     int64_t heads) {
  return fe::graph::Tensor_attributes()
      .set_name(name)
      .set_uid(id)
      .set_data_type(fe::DataType_t::BFLOAT16)
      .set_dim({shape.sequences, heads, shape.sequence_length, shape.head_dim})
      .set_stride({shape.sequence_length * tensor.row_stride, shape.head_dim, tensor.row_stride, 1});
}

// A view [B, H, T, 1]. cuDNN takes packed ones only, even for one sequence, whose row is then no longer than its heads.
fe::graph::Tensor_attributes StatisticsOf(const ConstTensor& tensor, const AttentionShape& shape) {
  const int64_t row = shape.sequences > 1 ? tensor.row_stride : shape.heads * shape.sequence_length;
  return fe::graph::Tensor_attributes()
      .set_name("log_sum_exp")
      .set_uid(kLogSumExp)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({shape.sequences, shape.heads, shape.sequence_length, 1})
      .set_stride({row, shape.sequence_length, 1, 1});
}

std::shared_ptr<fe::graph::Graph> NewGraph() {
  auto graph = std::make_shared<fe::graph::Graph>();
  graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  return graph;
}

// An output with the layout of `like`.
void SetOutput(const std::shared_ptr<fe::graph::Tensor_attributes>& output, const fe::graph::Tensor_attributes& like) {
  output->set_output(true)
      .set_uid(like.get_uid())
      .set_data_type(like.get_data_type())
      .set_dim(like.get_dim())
      .set_stride(like.get_stride());
}

std::shared_ptr<fe::graph::Graph> ForwardGraph(const AttentionForwardArgs& args) {
  const AttentionShape& s = args.shape;
  auto graph = NewGraph();
  const auto q = graph->tensor(HeadsOf("q", kQ, args.q, s, s.heads));
  const auto k = graph->tensor(HeadsOf("k", kK, args.k, s, s.kv_heads));
  const auto v = graph->tensor(HeadsOf("v", kV, args.v, s, s.kv_heads));
  const auto options = fe::graph::SDPA_attributes()
                           .set_name("attention")
                           .set_generate_stats(true)
                           .set_causal_mask(true)
                           .set_attn_scale(static_cast<float>(args.scale));
  const auto [out, statistics] = graph->sdpa(q, k, v, options);
  SetOutput(out, HeadsOf("out", kOut, args.out, s, s.heads));
  SetOutput(statistics, StatisticsOf(args.log_sum_exp, s));
  return graph;
}

std::shared_ptr<fe::graph::Graph> BackwardGraph(const AttentionBackwardArgs& args) {
  const AttentionShape& s = args.shape;
  auto graph = NewGraph();
  const auto q = graph->tensor(HeadsOf("q", kQ, args.q, s, s.heads));
  const auto k = graph->tensor(HeadsOf("k", kK, args.k, s, s.kv_heads));
  const auto v = graph->tensor(HeadsOf("v", kV, args.v, s, s.kv_heads));
  const auto out = graph->tensor(HeadsOf("out", kOut, args.out, s, s.heads));
  const auto grad_out = graph->tensor(HeadsOf("grad_out", kGradOut, args.grad_out, s, s.heads));
  const auto statistics = graph->tensor(StatisticsOf(args.log_sum_exp, s));
  const auto options = fe::graph::SDPA_backward_attributes()
                           .set_name("attention_backward")
                           .set_causal_mask(true)
                           .set_deterministic_algorithm(true)
                           .set_attn_scale(static_cast<float>(args.scale));
  const auto [grad_q, grad_k, grad_v] = graph->sdpa_backward(q, k, v, out, grad_out, statistics, options);
  SetOutput(grad_q, HeadsOf("grad_q", kGradQ, args.grad_q, s, s.heads));
  SetOutput(grad_k, HeadsOf("grad_k", kGradK, args.grad_k, s, s.kv_heads));
  SetOutput(grad_v, HeadsOf("grad_v", kGradV, args.grad_v, s, s.kv_heads));
  return graph;
}

// The plans of one stream. A shape is planned once, even if there is no plan for it.
class Plans {
 public:
  Plans() = default;
  Plans(const Plans&) = delete;
  Plans& operator=(const Plans&) = delete;
  ~Plans() {
    if (handle_ != nullptr) cudnnDestroy(handle_);
  }

  // Returns the plan of a shape; a plan without a graph says why. `tensors` are those whose layout decides the plan.
  // `make` builds the graph.
  template <typename Make>
  absl::StatusOr<const Plan*> PlanOf(const AttentionShape& shape, double scale, const std::vector<ConstTensor>& tensors,
                                     const Context& context, const Make& make) {
    ISTHMUS_RETURN_IF_ERROR(Open(context));
    Key key = {static_cast<int64_t>(tensors.size()),
               shape.sequences,
               shape.sequence_length,
               shape.heads,
               shape.kv_heads,
               shape.head_dim};
    for (const ConstTensor& tensor : tensors) key.push_back(tensor.row_stride);
    const auto found = plans_.find({key, scale});
    if (found != plans_.end()) return &found->second;
    return &plans_.emplace(std::pair(key, scale), Build(make())).first->second;
  }

  absl::Status Execute(const Plan& plan, std::initializer_list<std::pair<Id, const void*>> tensors,
                       const Tensor& workspace) const {
    // cuDNN takes addresses of one type, even of memory that it only reads.
    std::unordered_map<int64_t, void*> pointers;
    for (const auto& [id, data] : tensors) pointers.emplace(id, const_cast<void*>(data));
    fe::error_t error = plan.graph->execute(handle_, pointers, workspace.data);
    if (error.is_good()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("cuDNN attention: ", error.get_message()));
  }

 private:
  using Key = std::vector<int64_t>;

  absl::Status Open(const Context& context) {
    if (handle_ != nullptr) return absl::OkStatus();
    cudnnStatus_t status = cudnnCreate(&handle_);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnSetStream(handle_, context.stream);
    if (status == CUDNN_STATUS_SUCCESS) return absl::OkStatus();
    return absl::UnimplementedError(absl::StrCat("cuDNN can't be used: ", cudnnGetErrorString(status)));
  }

  Plan Build(std::shared_ptr<fe::graph::Graph> graph) const {
    Plan plan;
    fe::error_t error = graph->build(handle_, {fe::HeurMode_t::A});
    if (error.is_good()) error = graph->get_workspace_size(plan.workspace_bytes);
    if (error.is_good()) {
      plan.graph = std::move(graph);
    } else {
      plan.reason = absl::StrCat("cuDNN has no plan: ", error.get_message());
    }
    return plan;
  }

  cudnnHandle_t handle_ = nullptr;
  std::map<std::pair<Key, double>, Plan> plans_;
};

absl::Status CheckType(DType dtype) {
  if (dtype == DType::kBFloat16) return absl::OkStatus();
  return absl::UnimplementedError("cuDNN's fused attention takes bf16");
}

absl::Status CheckPlan(const Plan& plan, const Tensor& workspace) {
  if (plan.graph == nullptr) return absl::UnimplementedError(plan.reason);
  if (plan.workspace_bytes <= workspace.bytes()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("cuDNN's plan wants a workspace of ", plan.workspace_bytes,
                                               " bytes, there are ", workspace.bytes()));
}

}  // namespace

absl::Status CudnnAttentionForward(const AttentionForwardArgs& args, const Context& context) {
  ISTHMUS_RETURN_IF_ERROR(CheckType(args.q.dtype));
  auto& plans = context.Service<Plans>();
  ISTHMUS_ASSIGN_OR_RETURN(const Plan* plan,
                           plans.PlanOf(args.shape, args.scale, {args.q, args.k, args.v, args.out, args.log_sum_exp},
                                        context, [&] { return ForwardGraph(args); }));
  ISTHMUS_RETURN_IF_ERROR(CheckPlan(*plan, args.workspace));
  return plans.Execute(*plan,
                       {{kQ, args.q.data},
                        {kK, args.k.data},
                        {kV, args.v.data},
                        {kOut, args.out.data},
                        {kLogSumExp, args.log_sum_exp.data}},
                       args.workspace);
}

// Runs in the largest slices whose plan fits the workspace. No sum of the backward pass crosses a sequence or a key
// head. If no slice can be taken, the first reason is returned, which is that of the whole.
absl::Status CudnnAttentionBackward(const AttentionBackwardArgs& args, const Context& context) {
  ISTHMUS_RETURN_IF_ERROR(CheckType(args.q.dtype));
  auto& plans = context.Service<Plans>();
  absl::Status refused;
  for (const AttentionShape& slice : AttentionSlices(args.shape)) {
    // Addresses that cuDNN takes are multiples of 16 bytes; those of statistics lie this far apart.
    const bool whole = slice.sequences == args.shape.sequences && slice.kv_heads == args.shape.kv_heads;
    if (!whole && slice.heads * slice.sequence_length % 4 != 0) continue;
    const AttentionBackwardArgs first = SliceOf(args, slice, 0, 0);
    ISTHMUS_ASSIGN_OR_RETURN(const Plan* plan, plans.PlanOf(slice, first.scale,
                                                            {first.q, first.k, first.v, first.out, first.log_sum_exp,
                                                             first.grad_out, first.grad_q, first.grad_k, first.grad_v},
                                                            context, [&] { return BackwardGraph(first); }));
    if (const absl::Status usable = CheckPlan(*plan, args.workspace); !usable.ok()) {
      if (refused.ok()) refused = usable;
      continue;
    }
    for (int64_t sequence = 0; sequence < args.shape.sequences; sequence += slice.sequences) {
      for (int64_t kv_head = 0; kv_head < args.shape.kv_heads; kv_head += slice.kv_heads) {
        const AttentionBackwardArgs part = SliceOf(args, slice, sequence, kv_head);
        ISTHMUS_RETURN_IF_ERROR(plans.Execute(*plan,
                                              {{kQ, part.q.data},
                                               {kK, part.k.data},
                                               {kV, part.v.data},
                                               {kOut, part.out.data},
                                               {kLogSumExp, part.log_sum_exp.data},
                                               {kGradOut, part.grad_out.data},
                                               {kGradQ, part.grad_q.data},
                                               {kGradK, part.grad_k.data},
                                               {kGradV, part.grad_v.data}},
                                              args.workspace));
      }
    }
    return absl::OkStatus();
  }
  return refused;
}

int64_t CudnnVersionNumber() { return static_cast<int64_t>(cudnnGetVersion()); }

}  // namespace isthmus::cuda
