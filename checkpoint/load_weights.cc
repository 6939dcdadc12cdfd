#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <vector>

#include "checkpoint/weights.h"
#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

absl::StatusOr<DType> DTypeOf(const std::string& name) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    if (name == Name(dtype)) return dtype;
  }
  return absl::DataLossError(absl::StrCat("dtype \"", name, "\"; accepted: fp32, fp64, bf16"));
}

// The data files of a checkpoint, opened once each.
class SliceFiles {
 public:
  explicit SliceFiles(std::string folder) : folder_(std::move(folder)) {}
  ~SliceFiles() {
    for (const auto& [name, descriptor] : descriptors_) close(descriptor);
  }
  SliceFiles(const SliceFiles&) = delete;
  SliceFiles& operator=(const SliceFiles&) = delete;

  // The slice's bytes, checked.
  absl::Status Read(const proto::TensorEntry& tensor, const proto::TensorSlice& slice, int64_t bytes,
                    std::vector<char>& out) {
    const std::string path = folder_ + "/" + slice.file();
    auto [entry, added] = descriptors_.try_emplace(slice.file(), -1);
    if (added) {
      entry->second = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (entry->second < 0) {
        const int error = errno;
        descriptors_.erase(entry);
        return FileError(path, "can't open the checkpoint's data", error);
      }
    }
    out.resize(static_cast<size_t>(bytes));
    int64_t done = 0;
    while (done < bytes) {
      const ssize_t got =
          pread(entry->second, out.data() + done, static_cast<size_t>(bytes - done), slice.offset() + done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return FileError(path, "can't read", errno);
      if (got == 0) {
        return absl::DataLossError(absl::StrCat(path, ": truncated: tensor ", tensor.name(), " needs ", bytes,
                                                " bytes at ", slice.offset(), ", ", done, " are there"));
      }
      done += got;
    }
    if (XXH3_64bits(out.data(), out.size()) != slice.checksum()) {
      return absl::DataLossError(absl::StrCat(path, ": tensor ", tensor.name(), " at byte ", slice.offset(),
                                              ": the checksum is wrong: the file is damaged; use another checkpoint"));
    }
    return absl::OkStatus();
  }

 private:
  std::string folder_;
  std::map<std::string, int> descriptors_;
};

absl::Status LoadTensor(const proto::TensorEntry& tensor, const ParameterSpec& spec, const Tensor& weight,
                        SliceFiles& files) {
  ISTHMUS_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(tensor.dtype()));
  const bool by_columns = spec.sharding == Sharding::kColumns;
  const Range rows = by_columns ? Range{0, spec.rows} : spec.shard;
  const Range columns = by_columns ? spec.shard : Range{0, spec.columns};
  std::vector<char> bytes;
  Stream stream;
  for (const auto& slice : tensor.slices()) {
    const Range common_rows = {std::max(rows.begin, slice.row_begin()), std::min(rows.end, slice.row_end())};
    const Range common_columns = {std::max(columns.begin, slice.column_begin()),
                                  std::min(columns.end, slice.column_end())};
    if (common_rows.size() <= 0 || common_columns.size() <= 0) continue;
    const int64_t slice_rows = slice.row_end() - slice.row_begin();
    const int64_t slice_columns = slice.column_end() - slice.column_begin();
    ISTHMUS_RETURN_IF_ERROR(files.Read(tensor, slice, slice_rows * slice_columns * SizeOf(dtype), bytes));
    const Tensor stored(bytes.data(), dtype, slice_rows, slice_columns);
    const auto part = [&](const Tensor& from, int64_t first_row, int64_t first_column) {
      return from.RowSlice(common_rows.begin - first_row, common_rows.size())
          .ColumnSlice(common_columns.begin - first_column, common_columns.size());
    };
    ISTHMUS_RETURN_IF_ERROR(
        Cast(part(stored, slice.row_begin(), slice.column_begin()), part(weight, rows.begin, columns.begin), stream));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadWeights(const std::string& folder, const proto::CheckpointManifest& manifest,
                         const ParameterStore& parameters) {
  std::map<std::string, const proto::TensorEntry*> stored;
  for (const auto& tensor : manifest.tensors()) stored[tensor.name()] = &tensor;
  std::vector<std::string> missing;
  for (const ParameterSpec& spec : parameters.specs()) {
    const auto found = stored.find(spec.name);
    if (found == stored.end()) {
      missing.push_back(spec.name);
    } else if (found->second->rows() != spec.rows || found->second->columns() != spec.columns) {
      return absl::InvalidArgumentError(absl::StrCat(folder, ": tensor ", spec.name, " is [", found->second->rows(),
                                                     ", ", found->second->columns(), "], the model needs [", spec.rows,
                                                     ", ", spec.columns, "]; use the checkpoint's own configuration"));
    }
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, tensor] : stored) {
    if (parameters.table().Find(name) < 0) unexpected.push_back(name);
  }
  if (!missing.empty() || !unexpected.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": missing tensors: ", missing.empty() ? "none" : absl::StrJoin(missing, ", "), "; unexpected: ",
        unexpected.empty() ? "none" : absl::StrJoin(unexpected, ", "), "; use the checkpoint's own configuration"));
  }
  SliceFiles files(folder);
  const auto specs = parameters.specs();
  std::vector<char> staged;
  for (size_t i = 0; i < specs.size(); ++i) {
    const Tensor weight = parameters.Weight(static_cast<int>(i));
    const bool on_gpu = parameters.stream().device() == Device::kCuda;
    if (on_gpu) staged.resize(static_cast<size_t>(weight.bytes()));
    const Tensor host = on_gpu ? Tensor(staged.data(), weight.dtype, weight.rows, weight.columns) : weight;
    ISTHMUS_RETURN_IF_ERROR(LoadTensor(*stored[specs[i].name], specs[i], host, files));
    if (on_gpu) ISTHMUS_RETURN_IF_ERROR(CopyFromHost(host, weight, parameters.stream()));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
