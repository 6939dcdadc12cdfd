// A source of samples of a fixed length: what training needs of its data, wherever they come from.
#ifndef ISTHMUS_RUNTIME_DATA_SAMPLE_SOURCE_H_
#define ISTHMUS_RUNTIME_DATA_SAMPLE_SOURCE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace isthmus {

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  // Returns how many samples there are. A source without an end has a large number, of which no memory may depend.
  virtual int64_t samples() const = 0;
  virtual int64_t sequence_length() const = 0;  // T
  virtual int64_t vocabulary() const = 0;       // V; tokens are from 0 to V - 1
  // Returns that of the tokenizer which made the tokens; 0: none did.
  virtual uint64_t tokenizer_fingerprint() const = 0;
  // Sources with other samples, or in another order, have other fingerprints.
  virtual uint64_t fingerprint() const = 0;
  // Returns how often each token occurs, [V]. Only their ratios are known of a source without an end.
  virtual const std::vector<uint64_t>& Counts() const = 0;
  // Copies the T + 1 tokens of the sample `index`. Several threads may read at once.
  virtual absl::Status Read(int64_t index, absl::Span<int32_t> out) const = 0;
};

// Some of a source's samples, in the source's own numbering.
struct SampleSet {
  std::shared_ptr<const SampleSource> source;
  // Takes places [begin, begin + count) of a fixed permutation of the samples when `permuted`, else samples in order.
  int64_t begin = 0;
  int64_t count = 0;
  bool permuted = false;

  int64_t Sample(int64_t index) const;
};

// Cuts a source into training and validation samples at random, the same way for every run on the same data. At least
// one sample goes to each. Errors: InvalidArgument when there are fewer than two samples.
struct TrainingSplit {
  SampleSet training, validation;
};
absl::StatusOr<TrainingSplit> SplitSamples(const std::shared_ptr<const SampleSource>& source,
                                           double validation_fraction);

// All samples.
SampleSet AllSamples(std::shared_ptr<const SampleSource> source);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_SAMPLE_SOURCE_H_
