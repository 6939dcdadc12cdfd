#include "launch/run/run_facts.h"

#include <absl/strings/str_format.h>

#include "launch/run/count_text.h"
#include "model/model.h"
#include "runtime/commit.h"
#include "runtime/parallel_for.h"
#include "runtime/processor_name.h"
#include "runtime/version.h"

namespace isthmus {

proto::RunRecord FactsOf(const RunParts& run, const std::string& device, double peak_flops) {
  const int64_t sequence_length = run.config.data().sequence_length();
  const MemoryBytes memory = run.model->memory();
  proto::RunRecord facts;
  facts.set_version(kVersion);
  facts.set_parameters(run.model->parameters().table().GlobalCount());
  facts.set_vocabulary(run.config.model().vocabulary());
  facts.set_tensor_ranks(run.mesh->tensor_ranks());
  facts.set_data_ranks(run.mesh->data_ranks());
  facts.set_threads_per_rank(MaxThreads());
  if (!run.config.data().has_spamlang()) facts.set_training_tokens(run.data.training.count * sequence_length);
  facts.set_validation_tokens(run.data.validation.count * sequence_length);
  facts.set_unigram_entropy(run.data.unigram_entropy);
  facts.set_log_interval(run.config.telemetry().log_interval());
  facts.set_device(device);
  if (*SourceCommit() != '\0') facts.set_commit(SourceCommit());
  facts.set_data(absl::StrFormat("%016x", run.data.training.source->fingerprint()));
  if (const std::string processor = ProcessorName(); !processor.empty()) facts.set_processor(processor);
  if (peak_flops > 0) facts.set_peak_flops(peak_flops);
  facts.set_causal_flops_per_token(FlopsPerToken(run.config, /*causal=*/true, run.data.tables));
  facts.set_full_flops_per_token(FlopsPerToken(run.config, /*causal=*/false, run.data.tables));
  facts.set_weight_bytes(memory.weights);
  facts.set_gradient_bytes(memory.gradients);
  facts.set_optimizer_bytes(memory.optimizer);
  facts.set_activation_bytes(memory.activations);
  facts.set_head_bytes(memory.head + memory.decomposition);
  return facts;
}

std::string FactsText(const proto::RunRecord& facts) {
  return absl::StrFormat(
      "%s parameters, vocabulary %d; %d tensor × %d data ranks with %d %s each on %s; %s\n%s, unigram "
      "entropy %.4f nats per token",
      CountText(facts.parameters()), facts.vocabulary(), facts.tensor_ranks(), facts.data_ranks(),
      facts.threads_per_rank(), facts.threads_per_rank() == 1 ? "thread" : "threads", facts.device(),
      facts.has_peak_flops() ? absl::StrFormat("%.1f GFLOP/s matrix product peak", facts.peak_flops() / 1e9)
                             : "its matrix product peak is not known: no utilisation is given",
      facts.has_training_tokens() ? CountText(facts.training_tokens()) + " training tokens" : "made-up training tokens",
      facts.unigram_entropy());
}

}  // namespace isthmus
