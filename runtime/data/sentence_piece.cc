#include "runtime/data/sentence_piece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

#include "runtime/data/normalization_rule.h"

namespace isthmus {
namespace {

std::string Text(const sentencepiece::util::Status& status) {
  if (status.ok()) return "";
  const std::string message = status.message();
  return message.empty() ? "unknown failure" : message;
}

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::function<bool(std::string&)>& next_line) : next_line_(next_line) { Next(); }
  bool done() const override { return done_; }
  void Next() override { done_ = !next_line_(line_); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::function<bool(std::string&)>& next_line_;
  std::string line_;
  bool done_ = false;
};

}  // namespace

SentencePieceModel::SentencePieceModel() : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
SentencePieceModel::~SentencePieceModel() = default;

std::string SentencePieceModel::Load(const std::string& serialized_model) {
  if (std::string failure = CheckNormalizationRules(serialized_model); !failure.empty()) return failure;
  return Text(processor_->LoadFromSerializedProto(serialized_model));
}

int SentencePieceModel::vocabulary() const { return processor_->GetPieceSize(); }
int SentencePieceModel::end_of_text() const { return processor_->eos_id(); }

std::string SentencePieceModel::Encode(const char* text, size_t bytes, std::vector<int>& ids) const {
  return Text(processor_->Encode({text, bytes}, &ids));
}

std::string SentencePieceModel::Decode(const std::vector<int>& ids, std::string& text) const {
  return Text(processor_->Decode(ids, &text));
}

std::string TrainSentencePiece(const SentencePieceTraining& training, std::string& serialized_model) {
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(training.vocabulary)},
      {"character_coverage", std::to_string(training.character_coverage)},
      // The number is part of the model's bytes. More threads are no faster, because one thread finds the merges.
      {"num_threads", "1"},
      // Every text comes back as it was: there is no normalisation, spaces are kept, and unknown characters become
      // bytes.
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"user_defined_symbols", "\n"},
      {"unk_id", "0"},
      {"bos_id", "-1"},
      {"eos_id", "1"},
      {"pad_id", "-1"},
      {"eos_piece", "<|endoftext|>"},
      {"max_sentence_length", std::to_string(kMostTrainingLineBytes)},
      // A small corpus gives a smaller vocabulary rather than an error.
      {"hard_vocab_limit", "false"},
      {"minloglevel", "2"},
  };
  Lines lines(training.next_line);
  return Text(sentencepiece::SentencePieceTrainer::Train(options, &lines, &serialized_model));
}

}  // namespace isthmus
