// Llama (Touvron et al. 2023, arXiv:2307.09288) has attention with rotary positions and a gated feed-forward network.
#include "model/families/family.h"

namespace isthmus {

Family LlamaFamily() {
  return {.name = "llama",
          .blocks =
              [](const proto::ModelConfig&, int64_t) {
                return std::vector<BlockSlot>{{"attention", "attention"}, {"swiglu", "feed_forward"}};
              },
          .norm = "rms_norm",
          .positions = Positions::kRotary,
          .residual = ResidualForm::kSequential,
          .foreign_names = {{"embedding.weight", "model.embed_tokens.weight"},
                            {"attention_norm.weight", "input_layernorm.weight"},
                            {"feed_forward_norm.weight", "post_attention_layernorm.weight"},
                            {"attention.q_proj.weight", "self_attn.q_proj.weight"},
                            {"attention.k_proj.weight", "self_attn.k_proj.weight"},
                            {"attention.v_proj.weight", "self_attn.v_proj.weight"},
                            {"attention.o_proj.weight", "self_attn.o_proj.weight"},
                            {"feed_forward.gate_proj.weight", "mlp.gate_proj.weight"},
                            {"feed_forward.up_proj.weight", "mlp.up_proj.weight"},
                            {"feed_forward.down_proj.weight", "mlp.down_proj.weight"},
                            {"final_norm.weight", "model.norm.weight"},
                            {"head.weight", "lm_head.weight"}},
          .foreign_layers = "model.layers."};
}

}  // namespace isthmus
