#include "launch/commands/dumped_head.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <memory>

#include "parallel/shard.h"
#include "runtime/npy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

using Array = std::unique_ptr<const NpyArray>;

absl::Status Wrong(const Array& array, absl::string_view accepted) {
  return absl::InvalidArgumentError(absl::StrCat(array->path(), ": found ", array->Describe(), "; ", accepted));
}

absl::StatusOr<Array> OpenMatrix(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(Array array, NpyArray::Open(path));
  if (!array->floating() || array->shape().size() != 2 || array->size() == 0) {
    return Wrong(array, "needs a matrix of float32 or float64 that is not empty");
  }
  return array;
}

absl::StatusOr<Array> OpenIntegers(const std::string& path, int64_t length, absl::string_view why) {
  ISTHMUS_ASSIGN_OR_RETURN(Array array, NpyArray::Open(path));
  if (array->floating() || array->shape().size() != 1) return Wrong(array, "needs a vector of int32 or int64");
  if (array->size() != length) return Wrong(array, absl::StrCat("needs ", length, " elements: ", why));
  return array;
}

// Reads every element; each must be in [0, limit).
absl::StatusOr<std::vector<int64_t>> ReadIntegers(const Array& array, int64_t limit, absl::string_view accepted) {
  std::vector<int64_t> values(static_cast<size_t>(array->size()));
  ISTHMUS_RETURN_IF_ERROR(array->ReadIntegers(0, array->size(), values.data()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= 0 && values[i] < limit) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(array->path(), ": element ", i, " is ", values[i], "; accepts ", accepted));
  }
  return values;
}

// Returns how often each token occurs: in a file of counts, or among the targets.
absl::StatusOr<std::vector<uint64_t>> CountsOf(const DumpPaths& paths, int64_t vocabulary, const std::string& head_path,
                                               const std::vector<int64_t>& targets) {
  std::vector<uint64_t> counts(static_cast<size_t>(vocabulary), 0);
  if (paths.counts.empty()) {
    for (const int64_t target : targets) ++counts[static_cast<size_t>(target)];
    return counts;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Array array,
                           OpenIntegers(paths.counts, vocabulary, "one for each row of " + head_path));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<int64_t> values,
                           ReadIntegers(array, std::numeric_limits<int64_t>::max(), "0 and more"));
  counts.assign(values.begin(), values.end());
  return counts;
}

// Returns null if there is none.
absl::StatusOr<Array> OpenBias(const DumpPaths& paths, const NpyArray& head) {
  if (paths.bias.empty()) return Array();
  ISTHMUS_ASSIGN_OR_RETURN(Array bias, OpenMatrix(paths.bias));
  const int64_t rows = head.shape()[0];
  if (bias->shape()[0] == rows && bias->shape()[1] == 1) return bias;
  return Wrong(bias, absl::StrCat("needs one column and ", rows, " rows, as many as ", head.path()));
}

}  // namespace

absl::StatusOr<HostBlock> DumpedHead::ReadBlock(const NpyArray& array, int64_t begin, int64_t rows) {
  HostBlock block;
  block.rows = rows;
  block.columns = array.shape()[1];
  // A file with holes may state any size; memory is taken only here.
  const double bytes = 8.0 * static_cast<double>(rows) * static_cast<double>(block.columns);
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (bytes > memory) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %d of its rows take %.1f GB in fp64, and this machine has %.1f GB of memory; give fewer "
                        "rows or use more ranks",
                        array.path(), rows, bytes / 1e9, memory / 1e9));
  }
  block.values.resize(static_cast<size_t>(rows * block.columns));
  ISTHMUS_RETURN_IF_ERROR(array.ReadRows(begin, rows, block.values.data()));
  for (size_t i = 0; i < block.values.size(); ++i) {
    if (std::isfinite(block.values[i])) continue;
    const int64_t at = begin * block.columns + static_cast<int64_t>(i);
    return absl::InvalidArgumentError(absl::StrCat(array.path(), ": element (", at / block.columns, ", ",
                                                   at % block.columns, ") is ", block.values[i],
                                                   "; needs finite numbers"));
  }
  return block;
}

absl::StatusOr<DumpedHead> DumpedHead::Load(const DumpPaths& paths, const DumpShards& shards) {
  const bool has_down = !paths.up.empty();
  DumpedHead dump;
  dump.paths_ = paths;
  ISTHMUS_ASSIGN_OR_RETURN(const Array hidden, OpenMatrix(paths.hidden));
  ISTHMUS_ASSIGN_OR_RETURN(const Array head, OpenMatrix(has_down ? paths.up : paths.head));
  dump.tokens_ = hidden->shape()[0];
  dump.vocabulary_ = head->shape()[0];
  int64_t input = hidden->shape()[1];
  if (has_down) {
    ISTHMUS_ASSIGN_OR_RETURN(const Array down, OpenMatrix(paths.down));
    if (down->shape()[1] != input) {
      return Wrong(down, absl::StrCat("needs the ", input, " columns of the hidden states ", paths.hidden));
    }
    input = down->shape()[0];
    ISTHMUS_ASSIGN_OR_RETURN(dump.down_, ReadBlock(*down, 0, input));
  }
  if (head->shape()[1] != input) {
    return Wrong(head, absl::StrCat("needs ", input, has_down ? " columns, the rows of " : " columns, as many as ",
                                    has_down ? paths.down : paths.hidden));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Array bias, OpenBias(paths, *head));
  if (dump.vocabulary_ > std::numeric_limits<int32_t>::max() || dump.vocabulary_ < shards.tensor_ranks) {
    return Wrong(head, absl::StrCat("needs a vocabulary from the number of tensor ranks (", shards.tensor_ranks,
                                    ") to 2147483647"));
  }
  if (dump.tokens_ < shards.data_ranks) {
    return Wrong(hidden, absl::StrCat("needs at least as many tokens as data ranks (", shards.data_ranks, ")"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Array targets,
                           OpenIntegers(paths.targets, dump.tokens_, "one for each row of " + paths.hidden));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<int64_t> all_targets,
                           ReadIntegers(targets, dump.vocabulary_,
                                        absl::StrCat("0 to ", dump.vocabulary_ - 1, ", the rows of ", head->path())));
  ISTHMUS_ASSIGN_OR_RETURN(dump.counts_, CountsOf(paths, dump.vocabulary_, head->path(), all_targets));

  for (int i = 0; i < shards.tensor_ranks; ++i) {
    dump.shards_.push_back(ShardOf(dump.vocabulary_, shards.tensor_ranks, i));
    if (i < shards.tensor_first || i >= shards.tensor_first + shards.tensor_count) continue;
    const Range rows = dump.shards_.back();
    ISTHMUS_ASSIGN_OR_RETURN(HostBlock weight, ReadBlock(*head, rows.begin, rows.size()));
    dump.weights_.push_back(std::move(weight));
    if (bias == nullptr) continue;
    ISTHMUS_ASSIGN_OR_RETURN(HostBlock part, ReadBlock(*bias, rows.begin, rows.size()));
    dump.biases_.push_back(std::move(part));
  }
  dump.first_shard_ = static_cast<size_t>(shards.tensor_first);
  for (int i = shards.data_first; i < shards.data_first + shards.data_count; ++i) {
    const Range range = ShardOf(dump.tokens_, shards.data_ranks, i);
    Part part;
    part.first_token = range.begin;
    ISTHMUS_ASSIGN_OR_RETURN(part.hidden, ReadBlock(*hidden, range.begin, range.size()));
    part.targets.assign(all_targets.begin() + range.begin, all_targets.begin() + range.end);
    dump.parts_.push_back(std::move(part));
  }
  return dump;
}

HeadTensors DumpedHead::Tensors() const {
  HeadTensors tensors;
  tensors.tokens = tokens_;
  tensors.vocabulary = vocabulary_;
  tensors.shards = shards_;
  tensors.first_shard = first_shard_;
  for (const HostBlock& weight : weights_) tensors.weights.push_back(weight.tensor());
  for (const HostBlock& bias : biases_) tensors.biases.push_back(bias.tensor());
  if (!down_.values.empty()) tensors.down = down_.tensor();
  for (const Part& part : parts_) {
    tensors.parts.push_back(
        {part.hidden.tensor(),
         ConstTensor(part.targets.data(), DType::kInt32, 1, static_cast<int64_t>(part.targets.size())),
         part.first_token});
  }
  tensors.counts = counts_;
  tensors.hidden_name = paths_.hidden;
  tensors.head_name = paths_.up.empty() ? paths_.head : paths_.up;
  tensors.down_name = paths_.down;
  return tensors;
}

}  // namespace isthmus
