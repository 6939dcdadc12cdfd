#include "model/resolve.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "model/blocks/blocks.h"
#include "model/families/family.h"
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "model/linear.h"
#include "runtime/config.h"
#include "runtime/config_rules.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Checks sizes and numbers that all parts share.
void CheckSharedSizes(const proto::ModelConfig& model, ConfigRules& rules) {
  constexpr int64_t kMostLayers = int64_t{1} << 16;  // there are tables of them
  rules.Within(1, ConfigRules::kMostFeatures, "model.width", model.width());
  rules.Within(1, kMostLayers, "model.layers", model.layers());
  rules.Require(model.vocabulary() >= 0 && model.vocabulary() <= std::numeric_limits<int32_t>::max(),
                "model.vocabulary", model.vocabulary(), "accepts 0 (taken from the token shards) to 2147483647");
  rules.Between(0, 1, "model.norm_epsilon", model.norm_epsilon());
  rules.Positive("model.init_std", model.init_std());
}

// Returns the kinds of blocks that the layers have, each once.
std::vector<const BlockKind*> KindsOfBlocks(const proto::ModelConfig& model) {
  const Family& family = *FindFamily(model.family());
  std::vector<const BlockKind*> kinds;
  for (int64_t layer = 0; layer < model.layers(); ++layer) {
    for (const BlockSlot& slot : family.blocks(model, layer)) {
      const BlockKind* kind = FindBlock(slot.kind);
      if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    }
  }
  return kinds;
}

// Asks the blocks. Returns the widest rows of a layer.
ConfigFactor ResolveBlocks(proto::RunConfig& config, ConfigRules& rules) {
  const BlockConfig block = {*config.mutable_model(), config.mesh().tensor(), config.precision().fp8_layers()};
  ConfigFactor widest = {"model.width", config.model().width()};
  for (const BlockKind* kind : KindsOfBlocks(config.model())) {
    if (!kind->resolve || !rules.status().ok()) continue;
    const ConfigFactor rows = kind->resolve(block, rules);
    if (widest.value < rows.value) widest = rows;
  }
  return widest;
}

// Checks sizes that layers and batch make together.
void CheckLayers(const proto::RunConfig& config, const ConfigFactor& widest, ConfigRules& rules) {
  const auto& model = config.model();
  const int64_t micro_batch = config.batch().micro_batch(), length = config.data().sequence_length();
  rules.Product({{"model.layers", model.layers()}, {"model.width", model.width()}, widest});
  rules.Product(
      {{"batch.micro_batch", micro_batch}, {"data.sequence_length", length}, {"model.layers", model.layers()}, widest});
  if (!config.precision().fp8_layers()) return;
  CheckFp8Size("model.width", model.width(), model.width(), "model.width", rules);
  CheckFp8Size("batch.micro_batch", micro_batch, micro_batch * length, "batch.micro_batch × data.sequence_length",
               rules);
}

void CheckVocabulary(const proto::RunConfig& config, ConfigRules& rules) {
  const auto& model = config.model();
  const int64_t tokens = config.batch().micro_batch() * config.data().sequence_length();
  rules.Product({{"model.vocabulary", model.vocabulary()}, {"model.width", model.width()}});
  rules.Product({{"model.vocabulary", model.vocabulary()},
                 {"precision.loss_chunk", std::min(config.precision().loss_chunk(), std::max<int64_t>(tokens, 1))}});
  rules.Require(model.vocabulary() >= config.mesh().tensor(), "model.vocabulary", model.vocabulary(),
                absl::StrCat("needs at least one row for each of mesh.tensor (", config.mesh().tensor(), ") ranks"));
  CheckClusterCount(model, rules);
}

}  // namespace

absl::Status ResolveConfig(proto::RunConfig& config, int world_size, absl::string_view source) {
  ConfigRules rules(source);
  ResolveRunSettings(config, world_size, rules);
  CheckSharedSizes(config.model(), rules);
  // Parts may rely on these.
  ISTHMUS_RETURN_IF_ERROR(rules.status());
  ISTHMUS_RETURN_IF_ERROR(CheckFamily(config.model(), source));
  const ConfigFactor widest = ResolveBlocks(config, rules);
  ISTHMUS_RETURN_IF_ERROR(rules.status());
  CheckLayers(config, widest, rules);
  if (config.model().vocabulary() != 0) CheckVocabulary(config, rules);
  ISTHMUS_RETURN_IF_ERROR(rules.status());
  ISTHMUS_RETURN_IF_ERROR(CheckHead(config.model(), source));
  const auto policy = config.stability().spike().policy();
  rules.Require(policy == proto::SpikeConfig::NONE || !HeadLossChanges(config.model()), "stability.spike.policy",
                proto::SpikeConfig::Policy_Name(policy),
                "the losses of the head's stages do not compare, and a change would be a spike; use NONE or one stage");
  CheckClusterSource(config, rules);
  return rules.status();
}

absl::Status ResolveVocabulary(proto::RunConfig& config, int64_t shard_vocabulary, absl::string_view source) {
  auto& model = *config.mutable_model();
  ConfigRules rules(source);
  rules.Require(
      model.vocabulary() == 0 || model.vocabulary() >= shard_vocabulary, "model.vocabulary", model.vocabulary(),
      absl::StrCat("the token shards have a vocabulary of ", shard_vocabulary, "; set 0 or at least as many"));
  if (model.vocabulary() == 0) model.set_vocabulary(shard_vocabulary);
  CheckVocabulary(config, rules);
  return rules.status();
}

}  // namespace isthmus
