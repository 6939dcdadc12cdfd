#include "tests/support/class_language.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "runtime/data/sample_order.h"
#include "runtime/data/token_shard_writer.h"
#include "runtime/philox.h"

namespace isthmus::testing {

ClassLanguage::ClassLanguage(int64_t vocabulary, int64_t classes, uint64_t seed)
    : seed_(seed),
      class_of_(static_cast<size_t>(vocabulary)),
      members_(static_cast<size_t>(classes)),
      next_class_(static_cast<size_t>(classes)) {
  for (size_t token = 0; token < class_of_.size(); ++token) {
    const uint64_t place = PermutedIndex(token, class_of_.size(), seed, RandomPurpose::kTest, 0);
    class_of_[token] = static_cast<int32_t>(place % members_.size());
    members_[static_cast<size_t>(class_of_[token])].push_back(static_cast<int32_t>(token));
  }
  for (size_t from = 0; from < next_class_.size(); ++from) {
    double sum = 0;
    for (size_t to = 0; to < next_class_.size(); ++to) {
      sum += std::exp(2 * Philox::Normal(seed, RandomPurpose::kTest, 1, from * next_class_.size() + to));
      next_class_[from].push_back(sum);
    }
  }
}

std::vector<int32_t> ClassLanguage::Text(int64_t tokens, uint64_t number) const {
  std::vector<int32_t> text;
  size_t now = 0;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto uniform = [&](uint32_t stream) {
      return Philox::Uniform(seed_, RandomPurpose::kTest, stream, number << 32 | static_cast<uint64_t>(i));
    };
    const std::vector<double>& next = next_class_[now];
    now = static_cast<size_t>(std::upper_bound(next.begin(), next.end() - 1, uniform(2) * next.back()) - next.begin());
    // The square makes the first tokens of a class more frequent.
    const double place = std::pow(uniform(3), 2) * static_cast<double>(members_[now].size());
    text.push_back(members_[now][static_cast<size_t>(place)]);
  }
  return text;
}

void WriteShard(const std::string& path, int64_t vocabulary, const std::vector<std::vector<int32_t>>& documents) {
  auto writer = TokenShardWriter::Create(path, vocabulary, 1);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) ASSERT_TRUE((*writer)->AddDocument(document).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

PairCounts CountPairs(const std::vector<int32_t>& text) {
  PairCounts pairs;
  for (size_t i = 1; i < text.size(); ++i) ++pairs[{text[i - 1], text[i]}];
  return pairs;
}

SparseCounts MatrixOf(const PairCounts& pairs, int64_t vocabulary) {
  std::vector<std::vector<SparseCounts::Entry>> rows(static_cast<size_t>(vocabulary));
  for (const auto& [pair, count] : pairs) {
    rows[static_cast<size_t>(pair.second)].push_back({.column = pair.first, .count = count});
  }
  std::vector<int64_t> starts = {0};
  std::vector<SparseCounts::Entry> entries;
  for (const auto& row : rows) {
    entries.insert(entries.end(), row.begin(), row.end());
    starts.push_back(static_cast<int64_t>(entries.size()));
  }
  return {vocabulary, starts, entries};
}

std::vector<int32_t> InOrderOfAppearance(const std::vector<int32_t>& cluster_of) {
  std::map<int32_t, int32_t> number;
  std::vector<int32_t> numbered;
  for (const int32_t cluster : cluster_of) {
    numbered.push_back(number.emplace(cluster, static_cast<int32_t>(number.size())).first->second);
  }
  return numbered;
}

}  // namespace isthmus::testing
