#include "model/model.h"

#include "model/compute_type.h"
#include "model/families/family.h"
#include "model/head_clusters.h"
#include "model/parameter_builder.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

PartSetting SettingOf(const proto::RunConfig& config, const ModelRank& rank, Device device, const Purpose& purpose) {
  PartSetting setting;
  setting.vocabulary = config.model().vocabulary();
  setting.width = config.model().width();
  setting.seed = config.seed();
  setting.init_std = config.model().init_std();
  setting.norm_epsilon = config.model().norm_epsilon();
  setting.tensor_rank = rank.tensor_rank;
  setting.tensor_ranks = rank.tensor_ranks;
  setting.batch = {purpose.sequences, purpose.sequence_length};
  setting.type = ComputeType(config.precision());
  setting.device = device;
  setting.training = purpose.training;
  const Family& family = *FindFamily(config.model().family());
  for (int64_t layer = 0; layer < config.model().layers(); ++layer) {
    setting.branches += static_cast<int64_t>(family.blocks(config.model(), layer).size());
  }
  if (!purpose.training) return setting;
  setting.sequence_parallel = config.mesh().sequence_parallel() && rank.tensor_ranks > 1;
  setting.recompute = config.precision().recompute();
  setting.fp8 = config.precision().fp8_layers();
  return setting;
}

}  // namespace

Purpose Purpose::Training(const proto::RunConfig& config) {
  return {.training = true,
          .sequences = config.batch().micro_batch(),
          .sequence_length = config.data().sequence_length(),
          .loss_chunk = config.precision().loss_chunk()};
}

Model::Model(const proto::RunConfig& config, const ModelRank& rank, Device device, const Purpose& purpose,
             const TokenTables& tables)
    : config_(config.model()),
      rank_(rank),
      setting_(SettingOf(config, rank, device, purpose)),
      backbone_(config_, setting_),
      loss_(config_, setting_, purpose.loss_chunk, tables) {}

ParameterTable Model::Declare() {
  const Family& family = *FindFamily(config_.family());
  ParameterBuilder builder(rank_.tensor_ranks, rank_.data_ranks,
                           [&family](const std::string& own) { return family.ForeignName(own); });
  backbone_.Declare(builder);
  loss_.Declare(backbone_.embedding(), builder);
  builder.EndSegment();
  return builder.Take();
}

absl::StatusOr<std::unique_ptr<Model>> Model::Build(const proto::RunConfig& config, const Mesh& mesh, Stream& stream,
                                                    const Purpose& purpose, const TokenTables& tables) {
  if (!stream.dry()) ISTHMUS_RETURN_IF_ERROR(CheckClusters(config.model(), tables.clusters));
  const ModelRank rank = {mesh.tensor_rank(), mesh.tensor_ranks(), mesh.data_ranks()};
  auto model = std::make_unique<Model>(config, rank, stream.device(), purpose, tables);
  ISTHMUS_ASSIGN_OR_RETURN(model->parameters_, ParameterStore::Create(model->Declare(), model->setting_.type, stream,
                                                                      /*gradients=*/purpose.training));
  model->region_ = std::make_unique<TensorRegion>(mesh, model->setting_.sequence_parallel);
  ISTHMUS_RETURN_IF_ERROR(model->backbone_.Allocate(model->parameters_, *model->region_, stream));
  ISTHMUS_RETURN_IF_ERROR(model->loss_.Allocate(model->parameters_, *model->region_, stream));
  return model;
}

ParameterTable ParametersOf(const proto::RunConfig& config, const ModelRank& rank) {
  return Model(config, rank, Device::kCpu, Purpose()).Declare();
}

double FlopsPerToken(const proto::RunConfig& config, bool causal, const TokenTables& tables) {
  Model model(config, {}, Device::kCpu, Purpose::Reading(config.data().sequence_length()), tables);
  double products = model.loss().ForwardFlopsPerToken();
  for (const ParameterSpec& spec : model.Declare().specs) {
    if (spec.multiplies) products += 2 * static_cast<double>(spec.rows * spec.columns);
  }
  return 3 * products + model.loss().MoreBackwardFlopsPerToken() + model.backbone().FlopsPerToken(causal);
}

}  // namespace isthmus
