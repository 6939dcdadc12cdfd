// A text generator is a model that continues a text, on one rank or with its head and layers sharded over tensor ranks.
#ifndef ISTHMUS_MODEL_GENERATE_TEXT_GENERATOR_H_
#define ISTHMUS_MODEL_GENERATE_TEXT_GENERATOR_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/generate/token_sampler.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/token_buffer.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "runtime/data/token_tables.h"
#include "runtime/stream.h"

namespace isthmus {

class TextGenerator {
 public:
  // `config` must be resolved; its weights are to be loaded into parameters(). `window` is the number of tokens that
  // the model sees at once, 1 to data.sequence_length. It sees the last ones of a longer text. `mesh` and `stream` must
  // outlive the generator; `tables` need not.
  static absl::StatusOr<std::unique_ptr<TextGenerator>> Create(const proto::RunConfig& config, int64_t window,
                                                               const Mesh& mesh, Stream& stream,
                                                               const TokenTables& tables = {});

  const ParameterStore& parameters() const { return model_->parameters(); }

  // Returns the token after `tokens`, which must not be empty. It is the same on all ranks. Collective over the tensor
  // group. Runs the whole window again for every token. Errors: Aborted when a logit is not finite.
  absl::StatusOr<int32_t> Next(const std::vector<int32_t>& tokens, TokenSampler& sampler);

 private:
  TextGenerator(const Mesh& mesh, int64_t window, Stream& stream) : mesh_(mesh), window_(window), stream_(stream) {}
  // Gathers the logits after token `last` of the window with these `ids`, on all ranks.
  absl::Status GatherLogits(int64_t last, const Tensor& ids);

  const Mesh& mesh_;
  int64_t window_;
  Stream& stream_;
  int64_t vocabulary_ = 0;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;  // [window]
  TokenBuffer device_ids_;
  std::vector<char> head_logits_;                       // of the head, as it computes them
  std::vector<double> shard_logits_, gathered_logits_;  // padded to the longest shard
  std::vector<double> logits_;                          // [V]
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_GENERATE_TEXT_GENERATOR_H_
