#include "runtime/data/bigram_counts.h"

#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kMostBlockTokens = 4096, kFewestBlocks = 64, kHeldOutBlocks = 16;

constexpr uint64_t PairKey(int32_t previous, int32_t next) {
  return static_cast<uint64_t>(next) << 32 | static_cast<uint32_t>(previous);
}

// Counts keys by sorting them.
class KeyCounts {
 public:
  struct Entry {
    uint64_t key;
    uint32_t count;
  };

  void Add(uint64_t key) {
    waiting_.push_back(key);
    // Keys wait until they are twice as many as the entries: the work for each then grows with the logarithm alone.
    if (waiting_.size() >= std::max(kFewest, 2 * entries_.size())) Merge();
  }
  // Returns the entries by ascending key, and keeps none.
  std::vector<Entry> Take() {
    Merge();
    return std::exchange(entries_, {});
  }

 private:
  static constexpr size_t kFewest = size_t{1} << 20;

  void Merge() {
    std::sort(waiting_.begin(), waiting_.end());
    std::vector<Entry> merged;
    merged.reserve(entries_.size());
    auto old = entries_.begin();
    for (auto key = waiting_.begin(); key != waiting_.end();) {
      const auto end = std::find_if(key, waiting_.end(), [&](uint64_t other) { return other != *key; });
      for (; old != entries_.end() && old->key < *key; ++old) merged.push_back(*old);
      const uint32_t before = old != entries_.end() && old->key == *key ? (old++)->count : 0;
      merged.push_back({*key, before + static_cast<uint32_t>(end - key)});
      key = end;
    }
    merged.insert(merged.end(), old, entries_.end());
    entries_ = std::move(merged);
    waiting_.clear();
  }

  std::vector<Entry> entries_;
  std::vector<uint64_t> waiting_;
};

// Counts pairs. Each thread has the pairs of one share of the keys, so that no two write to the same table.
class PairTable {
 public:
  PairTable() : shares_(static_cast<size_t>(MaxThreads())) {}

  void Add(absl::Span<const uint64_t> keys) {
    ParallelFor(static_cast<int64_t>(shares_.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t share = begin; share < end; ++share) {
        KeyCounts& counts = shares_[static_cast<size_t>(share)];
        for (const uint64_t key : keys) {
          if (ShareOf(key) == static_cast<uint64_t>(share)) counts.Add(key);
        }
      }
    });
  }

  // Empties the table.
  SparseCounts Take(int64_t vocabulary) {
    const auto next_of = [](uint64_t key) { return static_cast<size_t>(key >> 32); };
    std::vector<std::vector<KeyCounts::Entry>> shares;
    for (KeyCounts& share : shares_) shares.push_back(share.Take());
    std::vector<int64_t> starts(static_cast<size_t>(vocabulary) + 1, 0);
    for (const auto& share : shares) {
      for (const auto& [key, count] : share) ++starts[next_of(key) + 1];
    }
    for (size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    std::vector<int64_t> place(starts.begin(), starts.end() - 1);
    std::vector<SparseCounts::Entry> entries(static_cast<size_t>(starts.back()));
    for (auto& share : shares) {
      for (const auto& [key, count] : share) {
        entries[static_cast<size_t>(place[next_of(key)]++)] = {
            .column = static_cast<int32_t>(static_cast<uint32_t>(key)), .count = count};
      }
      share = {};
    }
    constexpr int64_t kRows = 64;
    ParallelFor(vocabulary, kRows, [&](int64_t begin, int64_t end, int) {
      for (auto row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
        std::sort(entries.begin() + starts[row], entries.begin() + starts[row + 1],
                  [](const auto& a, const auto& b) { return a.column < b.column; });
      }
    });
    return {vocabulary, std::move(starts), std::move(entries)};
  }

 private:
  uint64_t ShareOf(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u >> 40) % shares_.size(); }

  std::vector<KeyCounts> shares_;
};

// The blocks of all shards, numbered from the first shard to the last.
class Blocks {
 public:
  Blocks(int64_t tokens, const BigramSampling& sampling)
      : size_(std::clamp<int64_t>(tokens / kFewestBlocks, 1, kMostBlockTokens)),
        share_(static_cast<double>(std::min(sampling.tokens, kMostBigrams)) /
               static_cast<double>(std::max<int64_t>(tokens, 1))),
        seed_(sampling.seed) {}

  int64_t size() const { return size_; }
  bool Taken(int64_t block) const {
    return share_ >= 1 ||
           Philox::Uniform(seed_, RandomPurpose::kTokenClusters, kStream, static_cast<uint64_t>(block)) < share_;
  }
  static bool HeldOut(int64_t block) { return block % kHeldOutBlocks == kHeldOutBlocks - 1; }

 private:
  static constexpr uint32_t kStream = 1;  // 0 shuffles clusters

  int64_t size_;
  double share_;
  uint64_t seed_;
};

// Reads the first tokens of a shard's documents in order, some at a time.
class DocumentCursor {
 public:
  explicit DocumentCursor(const TokenShard& shard) : shard_(shard) {}

  // Calls `visit` with each first token in [begin, end). Calls must go on where the last one ended.
  template <typename Visit>
  absl::Status VisitUpTo(int64_t end, Visit&& visit) {
    while (true) {
      if (next_ == starts_.size()) {
        if (read_ == shard_.documents()) return absl::OkStatus();
        ISTHMUS_RETURN_IF_ERROR(ReadMore());
      }
      if (static_cast<int64_t>(starts_[next_]) >= end) return absl::OkStatus();
      visit(static_cast<int64_t>(starts_[next_++]));
    }
  }

 private:
  absl::Status ReadMore() {
    constexpr int64_t kAtOnce = 1 << 16;
    // The last one is read again, so that the shard checks that the next one is greater.
    const bool again = read_ > 0;
    const int64_t begin = again ? read_ - 1 : 0;
    starts_.resize(static_cast<size_t>(std::min(kAtOnce, shard_.documents() - begin)));
    ISTHMUS_RETURN_IF_ERROR(shard_.ReadDocumentStarts(begin, absl::MakeSpan(starts_)));
    read_ = begin + static_cast<int64_t>(starts_.size());
    next_ = again ? 1 : 0;
    return absl::OkStatus();
  }

  const TokenShard& shard_;
  std::vector<uint64_t> starts_;
  size_t next_ = 0;
  int64_t read_ = 0;
};

// The pairs that were found and not yet counted.
struct FoundPairs {
  std::vector<uint64_t> training, held_out;

  void CountInto(PairTable& training_table, PairTable& held_out_table) {
    training_table.Add(training);
    held_out_table.Add(held_out);
    training.clear();
    held_out.clear();
  }
};

// Adds the pairs of one shard, whose blocks have numbers from `first_block` on.
absl::Status AddShard(const TokenShard& shard, const Blocks& blocks, int64_t first_block, PairTable& training,
                      PairTable& held_out) {
  // Threads start anew for each part, so a part is long.
  const int64_t size = blocks.size(), part_blocks = (int64_t{1} << 22) / size;
  const int64_t all_blocks = (shard.tokens() + size - 1) / size;
  std::vector<int32_t> tokens;
  std::vector<bool> first;
  FoundPairs pairs;
  DocumentCursor documents(shard);
  for (int64_t block = 0; block < all_blocks;) {
    // Only what is taken is read: a run of blocks, with the token before it.
    int64_t end_block = block;
    while (end_block < all_blocks && end_block - block < part_blocks && blocks.Taken(first_block + end_block)) {
      ++end_block;
    }
    if (end_block == block) {
      ++block;
      continue;
    }
    const int64_t begin = block * size, end = std::min(end_block * size, shard.tokens());
    const int64_t from = std::max<int64_t>(begin - 1, 0);
    tokens.resize(static_cast<size_t>(end - from));
    ISTHMUS_RETURN_IF_ERROR(shard.Read(from, absl::MakeSpan(tokens)));
    first.assign(tokens.size(), false);
    ISTHMUS_RETURN_IF_ERROR(documents.VisitUpTo(end, [&](int64_t start) {
      if (start >= from) first[static_cast<size_t>(start - from)] = true;
    }));
    for (int64_t i = std::max<int64_t>(begin, 1); i < end; ++i) {
      const auto place = static_cast<size_t>(i - from);
      if (first[place]) continue;
      auto& into = Blocks::HeldOut(first_block + i / size) ? pairs.held_out : pairs.training;
      into.push_back(PairKey(tokens[place - 1], tokens[place]));
    }
    block = end_block;
    if (static_cast<int64_t>(pairs.training.size()) >= part_blocks * size) pairs.CountInto(training, held_out);
  }
  pairs.CountInto(training, held_out);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CorpusBigrams> CountBigrams(const TokenDataset& dataset, const BigramSampling& sampling) {
  const Blocks blocks(dataset.tokens(), sampling);
  PairTable training, held_out;
  int64_t first_block = 0;
  for (const auto& shard : dataset.shards()) {
    ISTHMUS_RETURN_IF_ERROR(AddShard(*shard, blocks, first_block, training, held_out));
    first_block += (shard->tokens() + blocks.size() - 1) / blocks.size();
  }
  CorpusBigrams bigrams = {.training = training.Take(dataset.vocabulary()),
                           .held_out = held_out.Take(dataset.vocabulary())};
  if (bigrams.training.entries() > 0) return bigrams;
  return absl::InvalidArgumentError(
      absl::StrCat(dataset.shards().front()->path(), dataset.shards().size() > 1 ? ", …" : "",
                   ": no token follows another in the documents that were read; encode more text or read more tokens"));
}

}  // namespace isthmus
