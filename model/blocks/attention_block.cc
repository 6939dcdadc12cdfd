#include "model/blocks/attention_block.h"

#include <cmath>

#include "ops/rope.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Columns of the packed projections that are queries, keys and values.
struct QkvColumns {
  int64_t query, kv;
  Tensor Query(const Tensor& qkv) const { return qkv.ColumnSlice(0, query); }
  Tensor Key(const Tensor& qkv) const { return qkv.ColumnSlice(query, kv); }
  Tensor Value(const Tensor& qkv) const { return qkv.ColumnSlice(query + kv, kv); }
  int64_t total() const { return query + 2 * kv; }
};

QkvColumns ColumnsOf(const BlockContext& context) {
  return {context.shard.heads.size() * context.shape.head_dim, context.shard.kv_heads.size() * context.shape.head_dim};
}

double Scale(const BlockContext& context) { return 1.0 / std::sqrt(static_cast<double>(context.shape.head_dim)); }

absl::Status Rotate(const BlockContext& context, const Tensor& qkv, bool inverse) {
  const QkvColumns columns = ColumnsOf(context);
  for (const Tensor& part : {columns.Query(qkv), columns.Key(qkv)}) {
    ISTHMUS_RETURN_IF_ERROR(Rope({.x = part,
                                  .table = context.rope_table,
                                  .sequence_length = context.batch.sequence_length,
                                  .head_dim = context.shape.head_dim,
                                  .inverse = inverse},
                                 *context.stream));
  }
  return absl::OkStatus();
}

}  // namespace

AttentionBlock::AttentionBlock(const BlockContext& context, const ParameterStore& parameters, const std::string& prefix)
    : context_(context),
      qkv_(context, parameters, prefix + "attention_norm.weight", prefix + "attention.q_proj.weight",
           ColumnsOf(context).total()) {
  const std::string out = prefix + "attention.o_proj.weight";
  out_ = {parameters.Weight(out), parameters.Gradient(out), context.fp8()};
}

AttentionShape AttentionBlock::Shape() const {
  return {context_.batch.sequences, context_.batch.sequence_length, context_.shard.heads.size(),
          context_.shard.kv_heads.size(), context_.shape.head_dim};
}

absl::Status AttentionBlock::Forward(const Tensor& residual, const Tensor& addend, const AttentionSaved& saved) const {
  const BlockScratch& scratch = context_.scratch;
  Stream& stream = *context_.stream;
  ISTHMUS_RETURN_IF_ERROR(qkv_.Forward(residual, addend, {saved.x, saved.inverse}, saved.qkv));
  ISTHMUS_RETURN_IF_ERROR(Rotate(context_, saved.qkv, /*inverse=*/false));
  const QkvColumns columns = ColumnsOf(context_);
  ISTHMUS_RETURN_IF_ERROR(AttentionForward({.shape = Shape(),
                                            .scale = Scale(context_),
                                            .q = columns.Query(saved.qkv),
                                            .k = columns.Key(saved.qkv),
                                            .v = columns.Value(saved.qkv),
                                            .out = saved.out,
                                            .log_sum_exp = saved.log_sum_exp,
                                            .workspace = scratch.attention_workspace},
                                           stream));
  ISTHMUS_RETURN_IF_ERROR(out_.Forward(saved.out, scratch.branch, stream));
  return context_.region.Leave(scratch.branch, context_.region.LocalPart(scratch.branch));
}

absl::Status AttentionBlock::Backward(const Tensor& grad_stream, const AttentionSaved& saved) const {
  const BlockScratch& scratch = context_.scratch;
  const TensorRegion& region = context_.region;
  Stream& stream = *context_.stream;
  const QkvColumns columns = ColumnsOf(context_);

  const Tensor grad_branch = region.sequence_parallel() ? scratch.grad_full : grad_stream;
  ISTHMUS_RETURN_IF_ERROR(region.Enter(grad_stream, grad_branch));
  const Tensor grad_out(scratch.narrow.data, context_.type, context_.batch.tokens(), columns.query);
  ISTHMUS_RETURN_IF_ERROR(out_.BackwardInput(grad_branch, grad_out, stream));
  ISTHMUS_RETURN_IF_ERROR(out_.BackwardWeight(grad_branch, saved.out, stream));

  const Tensor grad_qkv(scratch.wide.data, context_.type, context_.batch.tokens(), columns.total());
  ISTHMUS_RETURN_IF_ERROR(AttentionBackward({.shape = Shape(),
                                             .scale = Scale(context_),
                                             .grad_out = grad_out,
                                             .q = columns.Query(saved.qkv),
                                             .k = columns.Key(saved.qkv),
                                             .v = columns.Value(saved.qkv),
                                             .out = saved.out,
                                             .log_sum_exp = saved.log_sum_exp,
                                             .grad_q = columns.Query(grad_qkv),
                                             .grad_k = columns.Key(grad_qkv),
                                             .grad_v = columns.Value(grad_qkv),
                                             .workspace = scratch.attention_workspace},
                                            stream));
  ISTHMUS_RETURN_IF_ERROR(Rotate(context_, grad_qkv, /*inverse=*/true));
  return qkv_.Backward(grad_qkv, {saved.x, saved.inverse}, grad_stream);
}

}  // namespace isthmus
