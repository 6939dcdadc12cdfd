#include "launch/commands/checkpoint_head.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "checkpoint/stored_clusters.h"
#include "checkpoint/weights.h"
#include "launch/run/agreed_checkpoint.h"
#include "launch/run/run_data.h"
#include "model/heads/heads.h"
#include "model/measure/jacobian_sample.h"
#include "model/model.h"
#include "model/resolve.h"
#include "ops/elementwise.h"
#include "runtime/data/batch_loader.h"
#include "runtime/data/sample_source.h"
#include "runtime/data/spamlang.h"
#include "runtime/data/token_dataset.h"
#include "runtime/data/token_tables.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Every rank reads this before the model is built.
struct Opened {
  std::string folder;
  proto::CheckpointManifest manifest;
  std::shared_ptr<const SampleSource> corpus;
  int64_t sequences = 0;  // over all data ranks
  TokenTables tables;
};

// Opens the corpus of the request, or makes the samples that the model was trained for.
absl::StatusOr<std::shared_ptr<const SampleSource>> OpenCorpus(const std::string& corpus, const Opened& opened) {
  const proto::RunConfig& config = opened.manifest.config();
  if (config.data().has_spamlang()) {
    if (corpus.empty()) return MakeSpamLang(config, SpamLang::Use::kValidation);
    return absl::InvalidArgumentError(absl::StrCat("--corpus: ", corpus, "; accepts none: the model of ", opened.folder,
                                                   " was trained on data.spamlang, whose samples are made up"));
  }
  if (corpus.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--corpus: is missing; the model of ", opened.folder,
                                                   " needs token shards (.ids) or a folder of them"));
  }
  const std::string paths[] = {corpus};
  ISTHMUS_ASSIGN_OR_RETURN(std::shared_ptr<const SampleSource> shards,
                           TokenDataset::Open(paths, config.data().sequence_length()));
  if (shards->tokenizer_fingerprint() != opened.manifest.tokenizer_fingerprint() ||
      shards->vocabulary() > config.model().vocabulary()) {
    return absl::InvalidArgumentError(
        absl::StrCat(corpus, ": was not made with the tokenizer that the model of ", opened.folder,
                     " was trained with; encode the text with its tokenizer.model (isthmus tokenizer encode)"));
  }
  return shards;
}

// `opened` has folder and manifest, which all ranks have agreed on.
absl::StatusOr<Opened> Open(const CheckpointRequest& request, Opened opened, int data, const Mesh& mesh) {
  auto& config = *opened.manifest.mutable_config();
  config.mutable_mesh()->set_tensor(mesh.tensor_ranks());
  config.mutable_mesh()->set_data(mesh.data_ranks());
  config.mutable_mesh()->set_sequence_parallel(false);
  config.mutable_precision()->set_fp8_layers(false);
  if (request.sequence_length > 0) config.mutable_data()->set_sequence_length(request.sequence_length);
  const int64_t length = config.data().sequence_length();
  opened.sequences = std::max<int64_t>(request.tokens / length / data, 1) * data;
  config.mutable_batch()->set_sequences(opened.sequences);
  config.mutable_batch()->set_micro_batch(1);
  ISTHMUS_RETURN_IF_ERROR(ResolveConfig(config, mesh.tensor_ranks() * mesh.data_ranks(), opened.folder));
  ISTHMUS_RETURN_IF_ERROR(CheckHolds(opened.folder, opened.manifest, config));
  ISTHMUS_ASSIGN_OR_RETURN(opened.tables.clusters, LoadClusters(opened.folder, opened.manifest));

  ISTHMUS_ASSIGN_OR_RETURN(opened.corpus, OpenCorpus(request.corpus, opened));
  if (opened.corpus->samples() < data) {
    const std::string name = request.corpus.empty() ? "data.spamlang" : request.corpus;
    return absl::InvalidArgumentError(absl::StrCat(name, ": has ", opened.corpus->samples(), " sequences of ", length,
                                                   " tokens; needs one for each of ", data, " data ranks"));
  }
  // No sample is read twice.
  opened.sequences = std::min(opened.sequences, opened.corpus->samples() / data * data);
  return opened;
}

absl::StatusOr<Batch> ReadBatch(const Opened& opened, const Mesh& mesh) {
  // The samples and their order are those of a run's validation.
  BatchLoader loader(AllSamples(opened.corpus), {.sequences = opened.sequences,
                                                 .data_rank = mesh.data_rank(),
                                                 .data_ranks = mesh.data_ranks(),
                                                 .seed = 0,
                                                 .prefetch = 1});
  return loader.Next();
}

}  // namespace

HostBlock CheckpointHead::Widened(const ConstTensor& tensor) {
  HostBlock block{std::vector<double>(static_cast<size_t>(tensor.size())), tensor.rows, tensor.columns};
  Stream host;
  Cast({.x = tensor, .y = block.tensor()}, host).IgnoreError();  // of shapes alone, which agree
  return block;
}

absl::StatusOr<CheckpointHead> CheckpointHead::Load(const CheckpointRequest& request, int tensor, int data,
                                                    const Mesh& mesh) {
  Opened agreed;
  ISTHMUS_ASSIGN_OR_RETURN(agreed.folder, AgreedCheckpoint(request.checkpoint, mesh.world()));
  ISTHMUS_ASSIGN_OR_RETURN(agreed.manifest, AgreedManifest(agreed.folder, mesh.world()));
  auto opened = Open(request, std::move(agreed), data, mesh);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(mesh.world(), opened.status()));
  const proto::RunConfig& config = opened->manifest.config();
  const int64_t length = config.data().sequence_length();
  Stream stream;
  ISTHMUS_ASSIGN_OR_RETURN(const auto model,
                           Model::Build(config, mesh, stream, Purpose::Reading(length), opened->tables));
  ISTHMUS_RETURN_IF_ERROR(
      AgreeOnStatus(mesh.world(), LoadWeights(opened->folder, opened->manifest, model->parameters())));
  auto batch = ReadBatch(*opened, mesh);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(mesh.world(), batch.status()));

  CheckpointHead head;
  head.folder_ = opened->folder;
  head.ranks_.tensor = tensor;
  head.ranks_.data = data;
  head.ranks_.alone = mesh.world().size() == 1;
  head.ranks_.first_shard = mesh.tensor_rank();
  head.ranks_.first_part = mesh.data_rank();
  head.tokens_ = opened->sequences * length;
  head.vocabulary_ = config.model().vocabulary();
  head.sequence_length_ = length;
  head.form_ = LossFormOf(config.model());
  head.counts_ = opened->corpus->Counts();
  head.counts_.resize(static_cast<size_t>(head.vocabulary_), 0);
  head.targets_ = std::move(batch->target_values);
  ISTHMUS_ASSIGN_OR_RETURN(const HeadView view, model->loss().View());
  head.not_linear_ = view.not_linear;
  if (!view.not_linear.empty() && (request.jacobian_tokens == 0 || view.jacobians == nullptr)) {
    return absl::InvalidArgumentError(
        absl::StrCat(head.folder_, ": the head can't be decomposed: ", view.not_linear,
                     view.jacobians == nullptr ? "" : "; --jacobian-tokens measures single tokens' gradients"));
  }
  if (view.not_linear.empty()) head.weight_ = Widened(view.weight);
  if (view.bias.defined()) head.bias_ = Widened(view.bias);
  if (view.down != nullptr) head.down_ = Widened(view.down->weight);

  const int64_t width = config.model().width();
  head.hidden_ = {std::vector<double>(head.targets_.size() * static_cast<size_t>(width)),
                  static_cast<int64_t>(head.targets_.size()), width};
  JacobianSample jacobians(request.jacobian_tokens, LossFormOf(config.model()), mesh, stream);
  jacobians.Begin(head.hidden_.rows, Tensor(head.targets_.data(), DType::kInt32, 1, head.hidden_.rows));
  for (int64_t begin = 0; begin < head.hidden_.rows; begin += length) {
    const Tensor ids = batch->ids().ColumnSlice(begin, length), hidden = head.hidden_.tensor().RowSlice(begin, length);
    ISTHMUS_RETURN_IF_ERROR(model->backbone().Forward(ids));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = model->backbone().hidden(), .y = hidden}, stream));
    model->loss().TakeInputs(ids);
    ISTHMUS_RETURN_IF_ERROR(jacobians.Add(view, hidden));
  }
  ISTHMUS_ASSIGN_OR_RETURN(head.visible_, jacobians.Sum());
  return head;
}

HeadTensors CheckpointHead::Tensors() const {
  HeadTensors tensors;
  tensors.tokens = tokens_;
  tensors.vocabulary = vocabulary_;
  tensors.form = form_;
  const bool has_bias = bias_.columns > 0;
  for (int rank = 0; rank < ranks_.tensor; ++rank) {
    const Range rows = tensors.shards.emplace_back(ShardOf(vocabulary_, ranks_.tensor, rank));
    if (!ranks_.alone) continue;
    tensors.weights.push_back(weight_.tensor().RowSlice(rows.begin, rows.size()));
    if (has_bias) tensors.biases.push_back(bias_.tensor().RowSlice(rows.begin, rows.size()));
  }
  if (!ranks_.alone) tensors.weights.push_back(weight_.tensor());
  if (!ranks_.alone && has_bias) tensors.biases.push_back(bias_.tensor());
  tensors.first_shard = static_cast<size_t>(ranks_.first_shard);
  if (down_.rows > 0) tensors.down = down_.tensor();
  const ConstTensor targets(targets_.data(), DType::kInt32, 1, hidden_.rows);
  for (int rank = 0; rank < (ranks_.alone ? ranks_.data : 1); ++rank) {
    const Range part = ranks_.alone ? ShardOf(tokens_, ranks_.data, rank) : Range{0, hidden_.rows};
    tensors.parts.push_back({hidden_.tensor().RowSlice(part.begin, part.size()),
                             targets.ColumnSlice(part.begin, part.size()),
                             ranks_.alone ? part.begin : ranks_.first_part * hidden_.rows});
  }
  tensors.counts = counts_;
  tensors.hidden_name = absl::StrCat("hidden states of ", folder_);
  tensors.head_name = absl::StrCat("head of ", folder_);
  tensors.down_name = absl::StrCat("factor E of the head of ", folder_);
  return tensors;
}

}  // namespace isthmus
