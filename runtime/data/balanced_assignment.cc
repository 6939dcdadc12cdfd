#include "runtime/data/balanced_assignment.h"

#include <cstddef>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

namespace isthmus {
namespace {

constexpr double kLowest = std::numeric_limits<double>::lowest();

using Bid = std::pair<double, int32_t>;  // of a row

// The rows that a column has, the lowest bid first.
using Bids = std::priority_queue<Bid, std::vector<Bid>, std::greater<>>;

struct Choice {
  size_t column = 0;
  double best = kLowest, second = kLowest;  // score less price
};

}  // namespace

std::vector<int32_t> AssignBalanced(absl::Span<const float> scores, absl::Span<const int64_t> room, double tolerance) {
  constexpr size_t kBidsPerRow = 256;
  const size_t columns = room.size(), rows = columns == 0 ? 0 : scores.size() / columns;
  std::vector<double> price(columns, 0);
  std::vector<Bids> bids(columns);
  const auto full = [&](size_t column) { return static_cast<int64_t>(bids[column].size()) >= room[column]; };
  // Returns the best column. With `only_free` prices don't count, and full columns can't be had.
  const auto choose = [&](size_t row, bool only_free) {
    Choice choice;
    for (size_t column = 0; column < columns; ++column) {
      if (room[column] == 0 || (only_free && full(column))) continue;
      const double value = scores[row * columns + column] - (only_free ? 0 : price[column]);
      if (value > choice.best) {
        choice.second = choice.best;
        choice.best = value;
        choice.column = column;
      } else if (value > choice.second) {
        choice.second = value;
      }
    }
    return choice;
  };
  std::vector<int32_t> waiting;
  for (size_t row = rows; row-- > 0;) waiting.push_back(static_cast<int32_t>(row));
  for (size_t made = 0; !waiting.empty(); ++made) {
    const int32_t row = waiting.back();
    waiting.pop_back();
    const bool only_free = made >= kBidsPerRow * rows;
    const Choice choice = choose(static_cast<size_t>(row), only_free);
    Bids& held = bids[choice.column];
    const double gain = choice.second == kLowest ? 0 : choice.best - choice.second;
    held.emplace(price[choice.column] + gain + tolerance, row);
    if (static_cast<int64_t>(held.size()) > room[choice.column]) {
      waiting.push_back(held.top().second);
      held.pop();
    }
    if (full(choice.column)) price[choice.column] = held.top().first;
  }
  std::vector<int32_t> column_of(rows);
  for (size_t column = 0; column < columns; ++column) {
    for (; !bids[column].empty(); bids[column].pop()) {
      column_of[static_cast<size_t>(bids[column].top().second)] = static_cast<int32_t>(column);
    }
  }
  return column_of;
}

}  // namespace isthmus
