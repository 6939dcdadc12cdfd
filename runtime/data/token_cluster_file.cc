#include "runtime/data/token_cluster_file.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/npy.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status WriteTokenClusters(const std::string& path, absl::Span<const int32_t> cluster_of) {
  ISTHMUS_ASSIGN_OR_RETURN(
      NpyWriter writer,
      NpyWriter::Create(path, NpyType::kInt32, {static_cast<int64_t>(cluster_of.size())}, FileOwner::kUser));
  ISTHMUS_RETURN_IF_ERROR(
      writer.Append(cluster_of.data(), static_cast<int64_t>(cluster_of.size() * sizeof(cluster_of[0]))));
  return writer.Commit();
}

absl::StatusOr<std::vector<int32_t>> ReadTokenClusters(const std::string& path, int64_t vocabulary) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto array, NpyArray::Open(path));
  if (array->type() != NpyType::kInt32 || array->shape() != std::vector<int64_t>{vocabulary}) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": found ", array->Describe(), "; accepts int32 (", vocabulary,
                                                   ",), the cluster of each token of the vocabulary, as `isthmus "
                                                   "tokenizer cluster` makes it"));
  }
  std::vector<int64_t> numbers(static_cast<size_t>(vocabulary));
  ISTHMUS_RETURN_IF_ERROR(array->ReadIntegers(0, vocabulary, numbers.data()));
  std::vector<int32_t> cluster_of(numbers.size());
  std::vector<bool> used(numbers.size(), false);
  int64_t most = -1;
  for (size_t token = 0; token < numbers.size(); ++token) {
    const int64_t cluster = numbers[token];
    if (cluster < 0 || cluster >= vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": token ", token, " has cluster ", cluster, "; accepts 0 to ", vocabulary - 1));
    }
    cluster_of[token] = static_cast<int32_t>(cluster);
    used[static_cast<size_t>(cluster)] = true;
    most = std::max(most, cluster);
  }
  const auto unused = std::find(used.begin(), used.end(), false) - used.begin();
  if (unused < most) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no token has cluster ", unused, ", and clusters go up to ",
                                                   most, "; accepts clusters of at least one token"));
  }
  return cluster_of;
}

}  // namespace isthmus
