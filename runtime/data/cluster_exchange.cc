#include "runtime/data/cluster_exchange.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace isthmus {
namespace {

constexpr int32_t kNobody = -1;

// For each pair of clusters, the few tokens of the first that lose least by going to the second.
class Partners {
 public:
  struct Partner {
    float loss = std::numeric_limits<float>::infinity();
    int32_t token = kNobody;
  };

  Partners(absl::Span<const float> scores, absl::Span<const int32_t> cluster_of, size_t clusters)
      : clusters_(clusters), lists_(clusters * clusters) {
    for (size_t token = 0; token < cluster_of.size(); ++token) {
      const auto from = static_cast<size_t>(cluster_of[token]);
      const float* score = scores.data() + token * clusters;
      for (size_t to = 0; to < clusters; ++to) {
        Insert(lists_[from * clusters + to], {.loss = score[from] - score[to], .token = static_cast<int32_t>(token)});
      }
    }
  }

  // Returns the best partner that has not moved.
  Partner Best(size_t from, size_t to, const std::vector<bool>& moved) const {
    for (const Partner& partner : lists_[from * clusters_ + to]) {
      if (partner.token == kNobody || !moved[static_cast<size_t>(partner.token)]) return partner;
    }
    return {};
  }

 private:
  static constexpr size_t kPartners = 4;
  using List = std::array<Partner, kPartners>;

  // The loss of a partner grows along the list. The earlier of equal ones stays first.
  static void Insert(List& list, Partner partner) {
    if (!(partner.loss < list.back().loss)) return;
    list.back() = partner;
    for (size_t i = kPartners - 1; i > 0 && list[i].loss < list[i - 1].loss; --i) std::swap(list[i], list[i - 1]);
  }

  size_t clusters_;
  std::vector<List> lists_;
};

}  // namespace

ClusterTable::ClusterTable(const SparseCounts& counts, std::vector<int32_t> cluster_of, int64_t clusters)
    : counts_(counts),
      small_(1 << 12, 0),
      cluster_of_(std::move(cluster_of)),
      clusters_(static_cast<size_t>(clusters)),
      token_counts_(counts.RowSums()),
      cluster_counts_(clusters_, 0),
      pair_counts_(static_cast<size_t>(counts.columns()) * clusters_, 0) {
  for (size_t n = 1; n < small_.size(); ++n) small_[n] = static_cast<double>(n) * std::log(n);
  for (size_t token = 0; token < cluster_of_.size(); ++token) {
    const auto cluster = static_cast<size_t>(cluster_of_[token]);
    cluster_counts_[cluster] += token_counts_[token];
    for (const auto& [previous, count] : counts_.Row(static_cast<int64_t>(token))) {
      pair_counts_[static_cast<size_t>(previous) * clusters_ + cluster] += count;
    }
  }
}

double ClusterTable::CountLogCount(uint64_t n) const {
  return n < small_.size() ? small_[n] : static_cast<double>(n) * std::log(static_cast<double>(n));
}

double ClusterTable::Move(int64_t token, int32_t to) {
  int32_t& cluster = cluster_of_[static_cast<size_t>(token)];
  const size_t source = static_cast<size_t>(cluster), target = static_cast<size_t>(to);
  if (source == target) return 0;
  double growth = 0;
  for (const auto& [previous, count] : counts_.Row(token)) {
    uint32_t* pairs = pair_counts_.data() + static_cast<size_t>(previous) * clusters_;
    growth += CountLogCount(pairs[source] - count) - CountLogCount(pairs[source]);
    growth += CountLogCount(pairs[target] + count) - CountLogCount(pairs[target]);
    pairs[source] -= count;
    pairs[target] += count;
  }
  uint64_t &less = cluster_counts_[source], &more = cluster_counts_[target];
  const uint64_t count = token_counts_[static_cast<size_t>(token)];
  growth -= CountLogCount(less - count) - CountLogCount(less) + CountLogCount(more + count) - CountLogCount(more);
  less -= count;
  more += count;
  cluster = to;
  return growth;
}

int64_t ExchangeTokens(absl::Span<const float> scores, ClusterTable& table, std::vector<int64_t>& free) {
  constexpr size_t kMostTried = 8;
  const size_t clusters = free.size(), tokens = table.cluster_of().size();
  const Partners partners(scores, table.cluster_of(), clusters);
  std::vector<bool> moved(tokens, false);
  std::vector<std::pair<float, size_t>> fits(clusters);  // scores, negative, so that the best come first
  int64_t exchanges = 0;
  for (size_t token = 0; token < tokens; ++token) {
    if (moved[token]) continue;
    const float* score = scores.data() + token * clusters;
    const auto own = static_cast<size_t>(table.cluster_of()[token]);
    for (size_t c = 0; c < clusters; ++c) fits[c] = {-score[c], c};
    const auto tried = fits.begin() + static_cast<ptrdiff_t>(std::min(kMostTried, clusters));
    std::partial_sort(fits.begin(), tried, fits.end());
    float best = 0;
    size_t to = own;
    int32_t partner = kNobody;
    for (auto fit = fits.begin(); fit != tried; ++fit) {
      const size_t cluster = fit->second;
      if (cluster == own) continue;
      const float gain = score[cluster] - score[own];
      if (free[cluster] > 0 && gain > best) {
        best = gain;
        to = cluster;
        partner = kNobody;
      }
      const auto other = partners.Best(cluster, own, moved);
      if (other.token != kNobody && gain - other.loss > best) {
        best = gain - other.loss;
        to = cluster;
        partner = other.token;
      }
    }
    if (to == own) continue;
    const auto place = static_cast<int64_t>(token);
    double growth = table.Move(place, static_cast<int32_t>(to));
    if (partner != kNobody) growth += table.Move(partner, static_cast<int32_t>(own));
    if (growth <= 0) {
      table.Move(place, static_cast<int32_t>(own));
      if (partner != kNobody) table.Move(partner, static_cast<int32_t>(to));
      continue;
    }
    ++exchanges;
    moved[token] = true;
    if (partner != kNobody) {
      moved[static_cast<size_t>(partner)] = true;
    } else {
      --free[to];
      ++free[own];
    }
  }
  return exchanges;
}

}  // namespace isthmus
