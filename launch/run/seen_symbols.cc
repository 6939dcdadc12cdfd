#include "launch/run/seen_symbols.h"

#include <absl/strings/str_cat.h>

#include <cstddef>
#include <utility>

#include "runtime/data/sample_order.h"

namespace isthmus {

SeenSymbols::SeenSymbols(std::shared_ptr<const SpamLang> data, Options options)
    : data_(std::move(data)), options_(std::move(options)), seen_(static_cast<size_t>(data_->symbols()), false) {}

void SeenSymbols::Train(int64_t batch) {
  for (int64_t passed = options_.batches + 1; passed < batch; ++passed) options_.untrained.push_back(passed);
  options_.batches = batch;
}

std::vector<int64_t> SeenSymbols::Untrained(int64_t batches) const {
  std::vector<int64_t> untrained = options_.untrained;
  for (int64_t batch = options_.batches + 1; batch <= batches; ++batch) untrained.push_back(batch);
  return untrained;
}

const std::vector<bool>& SeenSymbols::Seen() {
  const auto samples = static_cast<uint64_t>(data_->samples());
  while (looked_at_ < options_.batches && count_ < data_->symbols()) {
    ++looked_at_;
    if (passed_over_ < options_.untrained.size() && options_.untrained[passed_over_] == looked_at_) {
      ++passed_over_;
      continue;
    }
    for (int64_t i = 0; i < options_.sequences; ++i) {
      const auto place = static_cast<uint64_t>((looked_at_ - 1) * options_.sequences + i);
      const auto sample = static_cast<int64_t>(SampleAt(place, samples, options_.seed));
      const auto symbol = static_cast<size_t>(data_->Symbol(sample));
      if (!seen_[symbol]) ++count_;
      seen_[symbol] = true;
    }
  }
  return seen_;
}

double SeenSymbols::SeenShare() {
  Seen();
  return static_cast<double>(count_) / static_cast<double>(data_->symbols());
}

double SeenSymbols::SequencesPerSymbol() const {
  const auto trained = static_cast<double>(options_.batches) - static_cast<double>(options_.untrained.size());
  return trained * static_cast<double>(options_.sequences) / static_cast<double>(data_->symbols());
}

absl::Status CheckUntrained(const proto::CheckpointManifest& manifest, int64_t sequences, const std::string& folder) {
  const auto& untrained = manifest.untrained_batches();
  const int64_t batches = manifest.samples() / sequences;
  const auto fail = [&](int64_t found, const std::string& accepted) {
    return absl::DataLossError(absl::StrCat(folder, ": untrained_batches: ", found, "; accepted: ", accepted));
  };
  int64_t before = 0;
  for (const int64_t batch : untrained) {
    if (batch <= before || batch > batches) {
      return fail(batch, absl::StrCat(before + 1, " to ", batches, ", the batches behind the one before"));
    }
    before = batch;
  }
  if (untrained.size() == batches - manifest.step()) return absl::OkStatus();
  return fail(untrained.size(), absl::StrCat(batches - manifest.step(), " of them, for ", batches, " batches and ",
                                             manifest.step(), " steps"));
}

}  // namespace isthmus
