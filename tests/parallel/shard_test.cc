#include "parallel/shard.h"

#include <gtest/gtest.h>

namespace isthmus {
namespace {

TEST(ShardOf, PiecesAreContiguousCoverAllAndDifferByOneAtMost) {
  for (const int64_t count : {0, 1, 5, 7, 509, 50'257}) {
    for (const int parts : {1, 2, 3, 4, 7, 64}) {
      int64_t end = 0;
      for (int index = 0; index < parts; ++index) {
        const Range piece = ShardOf(count, parts, index);
        EXPECT_EQ(piece.begin, end);
        EXPECT_GE(piece.size(), count / parts);
        EXPECT_LE(piece.size(), (count + parts - 1) / parts);
        if (index > 0) {
          EXPECT_LE(piece.size(), ShardOf(count, parts, index - 1).size()) << "the longer ones first";
        }
        end = piece.end;
      }
      EXPECT_EQ(end, count);
    }
  }
}

}  // namespace
}  // namespace isthmus
