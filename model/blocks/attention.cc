// This block is causal grouped-query attention: query, key and value projections, rotary positions, attention, output
// projection (Llama 2, arXiv:2307.09288, section 2.2). Query heads and key-value heads are cut over the tensor ranks.
#include "ops/attention.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>

#include "model/blocks/blocks.h"
#include "model/linear.h"
#include "ops/rope.h"
#include "runtime/config_rules.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class Attention : public Block {
 public:
  explicit Attention(const BlockRequest& request)
      : setting_(request.setting),
        name_(request.name),
        theta_(request.config.rope_theta()),
        head_dim_(request.config.head_dim()),
        heads_(request.config.heads()),
        kv_heads_(request.config.kv_heads()),
        local_heads_(setting_.Share(heads_)),
        local_kv_heads_(setting_.Share(kv_heads_)) {}

  void Declare(ParameterBuilder& parameters) override {
    const auto rows = [&](const char* projection, int64_t heads) {
      const Range shard = setting_.Share(heads);
      return ParameterDeclaration{.name = absl::StrCat(name_, ".", projection, "_proj.weight"),
                                  .role = ParameterRole::kMixer,
                                  .rows = heads * head_dim_,
                                  .columns = setting_.width,
                                  .sharding = Sharding::kRows,
                                  .shard = {shard.begin * head_dim_, shard.end * head_dim_},
                                  .init_std = setting_.init_std,
                                  .multiplies = true};
    };
    qkv_parameters_ = parameters.AddPacked({rows("q", heads_), rows("k", kv_heads_), rows("v", kv_heads_)});
    ParameterDeclaration out = rows("o", heads_);
    std::swap(out.rows, out.columns);
    out.sharding = Sharding::kColumns;
    out.init_std = setting_.output_std();
    out_parameter_ = parameters.Add(out);
  }

  void Bind(const ParameterStore& parameters) override {
    const Fp8Scratch* fp8 = setting_.fp8 ? &scratch_.fp8 : nullptr;
    qkv_projection_ = {parameters.Weight(qkv_parameters_), parameters.Gradient(qkv_parameters_), fp8};
    out_projection_ = {parameters.Weight(out_parameter_), parameters.Gradient(out_parameter_), fp8};
  }

  void PlaceTables(SharedTables& tables, TensorPlacer& placer) override {
    rope_table_ = tables.Place(absl::StrCat("rope_table (theta ", theta_, ", head_dim ", head_dim_, ")"),
                               setting_.sum_type(), setting_.batch.sequence_length, head_dim_, placer,
                               [theta = theta_, head_dim = head_dim_](const Tensor& table, Stream& stream) {
                                 return FillRopeTable({.theta = theta, .head_dim = head_dim, .table = table}, stream);
                               });
  }

  void PlaceSaved(const std::string& prefix, TensorPlacer& placer) override {
    const int64_t tokens = setting_.batch.tokens();
    const std::string begin = absl::StrCat(prefix, name_, ".");
    kept_.qkv = placer.Place(begin + "qkv", setting_.type, tokens, qkv_columns());
    kept_.out = placer.Place(begin + "out", setting_.type, tokens, query_columns());
    kept_.log_sum_exp = placer.Place(begin + "log_sum_exp", setting_.sum_type(), setting_.batch.sequences,
                                     local_heads_.size() * setting_.batch.sequence_length);
  }

  void PlaceScratch(TensorPlacer& placer) override {
    scratch_.workspace = placer.Place("scratch.attention", DType::kUInt8, 1,
                                      AttentionWorkspaceBytes(Shape(), setting_.type, setting_.device));
    scratch_.fp8 =
        PlaceFp8Scratch(setting_, {{qkv_columns(), setting_.width}, {setting_.width, query_columns()}}, placer);
    if (!setting_.training) return;
    const int64_t tokens = setting_.batch.tokens();
    scratch_.grad_qkv = placer.Place("scratch.grad_qkv", setting_.type, tokens, qkv_columns());
    scratch_.grad_out = placer.Place("scratch.grad_attention", setting_.type, tokens, query_columns());
  }

  absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(qkv_projection_.Forward(x, kept_.qkv, stream));
    ISTHMUS_RETURN_IF_ERROR(Rotate(kept_.qkv, /*inverse=*/false, stream));
    ISTHMUS_RETURN_IF_ERROR(AttentionForward({.shape = Shape(),
                                              .scale = Scale(),
                                              .q = Query(kept_.qkv),
                                              .k = Key(kept_.qkv),
                                              .v = Value(kept_.qkv),
                                              .out = kept_.out,
                                              .log_sum_exp = kept_.log_sum_exp,
                                              .workspace = scratch_.workspace},
                                             stream));
    return y.defined() ? out_projection_.Forward(kept_.out, y, stream) : absl::OkStatus();
  }

  absl::Status Backward(const Tensor& grad_y, const Tensor& /*x*/, const Tensor& grad_x, Stream& stream) override {
    ISTHMUS_RETURN_IF_ERROR(out_projection_.BackwardInput(grad_y, scratch_.grad_out, stream));
    ISTHMUS_RETURN_IF_ERROR(out_projection_.BackwardWeight(grad_y, kept_.out, stream));
    ISTHMUS_RETURN_IF_ERROR(AttentionBackward({.shape = Shape(),
                                               .scale = Scale(),
                                               .grad_out = scratch_.grad_out,
                                               .q = Query(kept_.qkv),
                                               .k = Key(kept_.qkv),
                                               .v = Value(kept_.qkv),
                                               .out = kept_.out,
                                               .log_sum_exp = kept_.log_sum_exp,
                                               .grad_q = Query(scratch_.grad_qkv),
                                               .grad_k = Key(scratch_.grad_qkv),
                                               .grad_v = Value(scratch_.grad_qkv),
                                               .workspace = scratch_.workspace},
                                              stream));
    ISTHMUS_RETURN_IF_ERROR(Rotate(scratch_.grad_qkv, /*inverse=*/true, stream));
    return qkv_projection_.BackwardInput(scratch_.grad_qkv, grad_x, stream);
  }

  absl::Status BackwardWeights(const Tensor& x, Stream& stream) override {
    return qkv_projection_.BackwardWeight(scratch_.grad_qkv, x, stream);
  }

  std::vector<NamedTensor> Saved() const override { return {{name_ + ".qkv", kept_.qkv}, {name_ + ".out", kept_.out}}; }

  // There are two products of heads · head_dim for each pair of tokens; causal attention has half of the pairs.
  double ForwardFlopsPerToken(bool causal) const override {
    return (causal ? 2.0 : 4.0) * static_cast<double>(setting_.batch.sequence_length * heads_ * head_dim_);
  }

 private:
  int64_t query_columns() const { return local_heads_.size() * head_dim_; }
  int64_t kv_columns() const { return local_kv_heads_.size() * head_dim_; }
  int64_t qkv_columns() const { return query_columns() + 2 * kv_columns(); }
  // These are columns of the packed projections.
  Tensor Query(const Tensor& qkv) const { return qkv.ColumnSlice(0, query_columns()); }
  Tensor Key(const Tensor& qkv) const { return qkv.ColumnSlice(query_columns(), kv_columns()); }
  Tensor Value(const Tensor& qkv) const { return qkv.ColumnSlice(query_columns() + kv_columns(), kv_columns()); }

  AttentionShape Shape() const {
    return {setting_.batch.sequences, setting_.batch.sequence_length, local_heads_.size(), local_kv_heads_.size(),
            head_dim_};
  }
  double Scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim_)); }

  absl::Status Rotate(const Tensor& qkv, bool inverse, Stream& stream) const {
    for (const Tensor& part : {Query(qkv), Key(qkv)}) {
      ISTHMUS_RETURN_IF_ERROR(Rope({.x = part,
                                    .table = rope_table_,
                                    .sequence_length = setting_.batch.sequence_length,
                                    .head_dim = head_dim_,
                                    .inverse = inverse},
                                   stream));
    }
    return absl::OkStatus();
  }

  const PartSetting& setting_;
  const std::string name_;
  const double theta_;
  const int64_t head_dim_, heads_, kv_heads_;
  const Range local_heads_, local_kv_heads_;
  ParameterHandle qkv_parameters_, out_parameter_;
  Linear qkv_projection_, out_projection_;
  Tensor rope_table_;  // [T, head_dim]
  struct Kept {
    Tensor qkv;          // [N, (H_i + 2 K_i) head_dim] after the rotation
    Tensor out;          // [N, H_i head_dim]
    Tensor log_sum_exp;  // [B, H_i T]
  } kept_;
  struct Scratch {
    Tensor workspace, grad_qkv, grad_out;
    Fp8Scratch fp8;
  } scratch_;
};

ConfigFactor ResolveAttention(const BlockConfig& block, ConfigRules& rules) {
  proto::ModelConfig& model = block.model;
  constexpr int64_t kMost = ConfigRules::kMostFeatures;
  rules.Within(1, kMost, "model.heads", model.heads());
  rules.Within(0, kMost, "model.kv_heads", model.kv_heads());
  rules.Within(0, kMost, "model.head_dim", model.head_dim());
  if (!rules.status().ok()) return {};
  if (model.kv_heads() == 0) model.set_kv_heads(model.heads());
  if (model.head_dim() == 0) {
    rules.Require(
        model.width() % model.heads() == 0, "model.heads", model.heads(),
        absl::StrCat("does not divide model.width (", model.width(), "); choose another or set model.head_dim"));
    model.set_head_dim(std::max<int64_t>(model.width() / model.heads(), 1));
  }
  rules.Require(model.head_dim() % 2 == 0, "model.head_dim", model.head_dim(),
                "must be even: rotary positions turn pairs of features");
  rules.Require(model.heads() % model.kv_heads() == 0, "model.kv_heads", model.kv_heads(),
                absl::StrCat("does not divide model.heads (", model.heads(), ")"));
  const int64_t columns = model.heads() * model.head_dim();
  rules.Require(columns <= kMost, "model.heads", model.heads(),
                absl::StrCat("times model.head_dim (", model.head_dim(), ") is over ", kMost, "; lower one of them"));
  rules.DivisibleByTensor("model.heads", model.heads(), block.tensor_ranks);
  rules.DivisibleByTensor("model.kv_heads", model.kv_heads(), block.tensor_ranks);
  rules.Positive("model.rope_theta", model.rope_theta());
  if (block.fp8) {
    CheckFp8Size("model.heads", model.heads(), columns / block.tensor_ranks,
                 "model.heads × model.head_dim / mesh.tensor", rules);
    CheckFp8Size("model.kv_heads", model.kv_heads(), 2 * model.kv_heads() * model.head_dim() / block.tensor_ranks,
                 "2 × model.kv_heads × model.head_dim / mesh.tensor", rules);
  }
  return {"model.heads × model.head_dim", columns};
}

}  // namespace

BlockKind AttentionKind() {
  return {.name = "attention",
          .make = [](const BlockRequest& request) { return std::make_unique<Attention>(request); },
          .resolve = ResolveAttention};
}

}  // namespace isthmus
