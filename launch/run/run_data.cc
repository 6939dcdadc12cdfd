#include "launch/run/run_data.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cstddef>
#include <vector>

#include "launch/watch/same_start.h"
#include "parallel/host_bytes.h"
#include "runtime/crc32c.h"
#include "runtime/data/token_dataset.h"
#include "runtime/data/tokenizer.h"
#include "runtime/durable_file.h"
#include "runtime/npy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<RunData> OpenShards(const proto::DataConfig& config, bool verify, const std::string& source,
                                   const StopSignals& signals) {
  const std::vector<std::string> train(config.train().begin(), config.train().end());
  const std::vector<std::string> validate(config.validation().begin(), config.validation().end());
  ISTHMUS_ASSIGN_OR_RETURN(const auto training, TokenDataset::Open(train, config.sequence_length()));
  RunData data;
  data.unigram_entropy = UnigramEntropy(training->Counts());
  data.short_shards = training->shards_without_samples();
  if (verify) ISTHMUS_RETURN_IF_ERROR(training->VerifyChecksums(signals));
  if (!config.tokenizer().empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(data.tokenizer_model, ReadFile(config.tokenizer(), kMostTokenizerBytes));
    ISTHMUS_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Parse(data.tokenizer_model, config.tokenizer()));
    ISTHMUS_RETURN_IF_ERROR(CheckTokenizer(*tokenizer, config.tokenizer(), *training->shards().front()));
  }
  if (validate.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(TrainingSplit split, SplitSamples(training, config.validation_fraction()));
    data.training = std::move(split.training);
    data.validation = std::move(split.validation);
    return data;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const auto validation, TokenDataset::Open(validate, config.sequence_length()));
  if (validation->vocabulary() != training->vocabulary() ||
      validation->tokenizer_fingerprint() != training->tokenizer_fingerprint()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": data.validation: ", validation->shards().front()->path(),
                                                   " was made with another tokenizer than ",
                                                   training->shards().front()->path(), "; encode both with the same"));
  }
  if (verify) ISTHMUS_RETURN_IF_ERROR(validation->VerifyChecksums(signals));
  data.training = AllSamples(training);
  data.validation = AllSamples(validation);
  return data;
}

}  // namespace

int64_t TokensPerStep(const proto::RunConfig& config) {
  return config.batch().sequences() * config.data().sequence_length();
}

std::shared_ptr<const SpamLang> MakeSpamLang(const proto::RunConfig& config, SpamLang::Use use) {
  const SpamLangShape shape = {.symbols = config.data().spamlang().symbols(),
                               .vocabulary = config.model().vocabulary(),
                               .sequence_length = config.data().sequence_length()};
  return std::make_shared<const SpamLang>(shape, use);
}

absl::StatusOr<RunData> OpenRunData(const proto::RunConfig& config, bool verify, const std::string& source,
                                    const StopSignals& signals) {
  if (!config.data().has_spamlang()) return OpenShards(config.data(), verify, source, signals);
  RunData data;
  data.training = AllSamples(MakeSpamLang(config, SpamLang::Use::kTraining));
  data.validation = AllSamples(MakeSpamLang(config, SpamLang::Use::kValidation));
  data.unigram_entropy = UnigramEntropy(data.training.source->Counts());
  return data;
}

void CountTokens(int64_t vocabulary, RunData& data) {
  data.tables.counts = data.training.source->Counts();
  data.tables.counts.resize(static_cast<size_t>(vocabulary), 0);
}

absl::Status CheckSameData(const RunData& data, Communicator& world) {
  const auto describe = [](const SampleSet& set) {
    return absl::StrFormat("%d samples of data with fingerprint %016x", set.count, set.source->fingerprint());
  };
  std::string mine = absl::StrFormat("%s to train on, %s to validate with, tokenizer %08x", describe(data.training),
                                     describe(data.validation), Crc32c(data.tokenizer_model));
  if (!data.tables.clusters.empty()) {
    absl::StrAppendFormat(&mine, ", clusters %08x", Crc32c(NpyBytes(data.tables.clusters)));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> all, AllGatherBytes(world, mine));
  return CheckAlike(all, "set of data files", "copy the right ones to every node");
}

}  // namespace isthmus
