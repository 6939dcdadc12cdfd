// A model on one rank of a mesh has its parameters, its backbone, and its head with the loss. Training, evaluation,
// generation and decomposition all build it here.
#ifndef ISTHMUS_MODEL_MODEL_H_
#define ISTHMUS_MODEL_MODEL_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>

#include "model/backbone.h"
#include "model/chunked_loss.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/data/token_tables.h"
#include "runtime/stream.h"

namespace isthmus {

// A purpose says what a model is built for.
struct Purpose {
  bool training = false;  // with gradients
  int64_t sequences = 1;  // of one micro-batch on one data rank
  int64_t sequence_length = 1;
  int64_t loss_chunk = 1;  // tokens whose logits exist at once

  // Returns the purpose for the micro-batches of a run.
  static Purpose Training(const proto::RunConfig& config);
  // Returns the purpose for one sequence at a time, without gradients. The logits of one token exist at once.
  static Purpose Reading(int64_t sequence_length) { return {.sequence_length = sequence_length}; }
};

// A model's memory depends on this part of a mesh.
struct ModelRank {
  int tensor_rank = 0, tensor_ranks = 1, data_ranks = 1;
};

class Model {
 public:
  // `config` must be resolved (model/resolve.h), and its model.vocabulary known. `mesh` and `stream` must outlive the
  // model; `tables` need not. Errors: InvalidArgument for clusters that are not the configuration's; of memory.
  static absl::StatusOr<std::unique_ptr<Model>> Build(const proto::RunConfig& config, const Mesh& mesh, Stream& stream,
                                                      const Purpose& purpose, const TokenTables& tables = {});

  ParameterStore& parameters() { return parameters_; }
  const ParameterStore& parameters() const { return parameters_; }
  Backbone& backbone() { return backbone_; }
  const Backbone& backbone() const { return backbone_; }
  ChunkedLoss& loss() { return loss_; }
  const ChunkedLoss& loss() const { return loss_; }
  const TensorRegion& region() const { return *region_; }
  const PartSetting& setting() const { return setting_; }

  // Makes the parts without memory; they tell what can be said of a model beforehand. Parameters and memory do not
  // depend on `tables`.
  Model(const proto::RunConfig& config, const ModelRank& rank, Device device, const Purpose& purpose,
        const TokenTables& tables = {});
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Declares the parameters of the rank. It is called once.
  ParameterTable Declare();
  // Describes the memory of activations, and of head and loss.
  ArenaLayout ActivationLayout() { return backbone_.Layout(); }
  ArenaLayout HeadLayout() { return loss_.Layout(); }

 private:
  const proto::ModelConfig config_;
  const ModelRank rank_;
  const PartSetting setting_;
  ParameterStore parameters_;
  Backbone backbone_;
  ChunkedLoss loss_;
  std::unique_ptr<TensorRegion> region_;
};

// Returns the parameters of one rank of a model. `config` must be resolved, and its vocabulary known.
ParameterTable ParametersOf(const proto::RunConfig& config, const ModelRank& rank = {});

// Returns the floating-point operations of forward and backward pass per token (DESIGN section 7): three times those of
// the forward pass. `tables` may be empty: a head of clusters then takes them and its targets to be even. With
// `causal`, attention counts what is computed, else all pairs of tokens.
double FlopsPerToken(const proto::RunConfig& config, bool causal, const TokenTables& tables = {});

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MODEL_H_
