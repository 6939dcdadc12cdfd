#include "ops/embedding.h"

#include <gtest/gtest.h>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

// Token 3 comes as often as all others together, as frequent words do.
Matrix SomeIds(int64_t tokens, int64_t vocabulary) {
  Matrix ids(1, tokens);
  for (int64_t n = 0; n < tokens; ++n) {
    ids(0, n) = static_cast<double>(n % 2 == 0 ? 3 % vocabulary : n * 7919 % vocabulary);
  }
  return ids;
}

struct EmbeddingShape {
  int64_t tokens, vocabulary, columns, padding;
};
const std::vector<EmbeddingShape> kEmbeddingShapes = {{1, 1, 1, 0}, {7, 5, 3, 2}, {509, 100, 17, 0}, {1000, 37, 7, 1}};

TEST(Embedding, SumOverShardsIsTheWholeLookUp) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const EmbeddingShape& s : kEmbeddingShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.tokens << " tokens");
      const Buffer table(dtype, Normal(s.vocabulary, s.columns, 1), s.padding),
          ids(DType::kInt32, SomeIds(s.tokens, s.vocabulary));
      Matrix sum(s.tokens, s.columns), expected(s.tokens, s.columns);
      const int64_t split = s.vocabulary / 3;
      for (const auto& [first, count] : {std::pair(int64_t{0}, split), std::pair(split, s.vocabulary - split)}) {
        const Buffer y(dtype, s.tokens, s.columns, s.padding);
        ASSERT_TRUE(
            EmbeddingForward({.ids = ids, .table = table.tensor().RowSlice(first, count), .first_row = first, .y = y},
                             stream)
                .ok());
        EXPECT_TRUE(y.PaddingUntouched());
        const Matrix part = y.Get();
        for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += part.values[i];
      }
      const Matrix ids64 = ids.Get(), table64 = table.Get();
      for (int64_t n = 0; n < s.tokens; ++n) {
        for (int64_t i = 0; i < s.columns; ++i) expected(n, i) = table64(static_cast<int64_t>(ids64(0, n)), i);
      }
      EXPECT_EQ(sum.values, expected.values);
    }
  }
}

TEST(Embedding, BackwardAddsEveryTokenOfTheShardAndNoOther) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const EmbeddingShape& s : kEmbeddingShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.tokens << " tokens");
      const DType sums = AccumulationType(dtype);
      const int64_t first = s.vocabulary / 3, rows = s.vocabulary - first;
      const Buffer grad_y(dtype, Normal(s.tokens, s.columns, 2), s.padding),
          ids(DType::kInt32, SomeIds(s.tokens, s.vocabulary));
      const Buffer grad_table(sums, Normal(rows, s.columns, 3), s.padding), workspace(DType::kInt32, 1, 2 * s.tokens);
      Matrix expected = grad_table.Get();
      const Matrix ids64 = ids.Get(), grad64 = grad_y.Get();
      for (int64_t n = 0; n < s.tokens; ++n) {
        const int64_t row = static_cast<int64_t>(ids64(0, n)) - first;
        for (int64_t i = 0; row >= 0 && i < s.columns; ++i) expected(row, i) += grad64(n, i);
      }
      ASSERT_TRUE(
          EmbeddingBackward(
              {.ids = ids, .grad_y = grad_y, .first_row = first, .grad_table = grad_table, .workspace = workspace},
              stream)
              .ok());
      ExpectAgrees("grad_table", grad_table, expected, sums);
    }
  }
}

TEST(Embedding, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer grad_y(DType::kBFloat16, Normal(3001, 19, 2)), ids(DType::kInt32, SomeIds(3001, 211));
    const Buffer grad_table(DType::kFloat32, 211, 19), workspace(DType::kInt32, 1, 6002);
    EXPECT_TRUE(
        EmbeddingBackward({.ids = ids, .grad_y = grad_y, .grad_table = grad_table, .workspace = workspace}, stream)
            .ok());
    return grad_table.Bytes();
  });
}

TEST(Embedding, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer ids(DType::kInt32, 1, 4), table(DType::kFloat32, 9, 5), y(DType::kFloat32, 4, 6),
      workspace(DType::kInt32, 1, 8);
  EXPECT_EQ(EmbeddingForward({.ids = ids, .table = table, .y = y}, stream).code(), absl::StatusCode::kInvalidArgument);
  const Buffer grad_y(DType::kBFloat16, 4, 5), narrow(DType::kBFloat16, 9, 5), small(DType::kInt32, 1, 7);
  EXPECT_TRUE(
      EmbeddingBackward({.ids = ids, .grad_y = grad_y, .grad_table = table, .workspace = workspace}, stream).ok());
  EXPECT_FALSE(
      EmbeddingBackward({.ids = ids, .grad_y = grad_y, .grad_table = narrow, .workspace = workspace}, stream).ok());
  EXPECT_FALSE(EmbeddingBackward({.ids = ids, .grad_y = grad_y, .grad_table = table, .workspace = small}, stream).ok());
}

}  // namespace
}  // namespace isthmus
