// SpamLang, a made-up language: one symbol, repeated for the whole sequence (Godey & Artzi, "Lost in Backpropagation",
// arXiv:2603.10145). The next token is always the one before it, so that a model with two or more dimensions can be
// right about all of it. A model that does not learn it shows a limit of its training.
#ifndef ISTHMUS_RUNTIME_DATA_SPAMLANG_H_
#define ISTHMUS_RUNTIME_DATA_SPAMLANG_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "runtime/data/sample_source.h"

namespace isthmus {

struct SpamLangShape {
  int64_t symbols = 1;          // S, 1 to V: those that occur are 0 to S - 1
  int64_t vocabulary = 1;       // V
  int64_t sequence_length = 1;  // T
};

// All samples are functions of their index, so that every mesh and every resumed run reads the same.
class SpamLang final : public SampleSource {
 public:
  enum class Use {
    kTraining,    // sample i has a symbol that Philox draws uniformly for i, independently of all others
    kValidation,  // sample i has symbol i: each of the S symbols occurs once
  };
  // A run sees these training samples in the order of its seed (SampleAt), and never all of them.
  static constexpr int64_t kTrainingSamples = int64_t{1} << 40;

  SpamLang(const SpamLangShape& shape, Use use);

  int64_t symbols() const { return shape_.symbols; }
  // Returns the symbol of a sample.
  int32_t Symbol(int64_t index) const;

  int64_t samples() const override { return use_ == Use::kTraining ? kTrainingSamples : shape_.symbols; }
  int64_t sequence_length() const override { return shape_.sequence_length; }
  int64_t vocabulary() const override { return shape_.vocabulary; }
  uint64_t tokenizer_fingerprint() const override { return 0; }
  uint64_t fingerprint() const override;
  // They are equal for all symbols, and 0 for the other tokens of the vocabulary.
  const std::vector<uint64_t>& Counts() const override { return counts_; }
  absl::Status Read(int64_t index, absl::Span<int32_t> out) const override;

 private:
  const SpamLangShape shape_;
  const Use use_;
  std::vector<uint64_t> counts_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_SPAMLANG_H_
