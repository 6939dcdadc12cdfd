#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/manifest_check.h"
#include "checkpoint/model_tensors.h"
#include "checkpoint/save_steps.h"
#include "checkpoint/weights.h"
#include "parallel/host_bytes.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/fault_point.h"
#include "runtime/npy.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

// This is large enough for a disk's full rate, small enough to be staged.
constexpr int64_t kChunkBytes = int64_t{1} << 22;

// Returns whether no element has all bits of its exponent set.
template <typename Bits>
bool AllFinite(const void* data, int64_t count, Bits exponent) {
  const char* from = static_cast<const char*>(data);
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, from + i * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

bool AllFinite(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::kFloat64:
      return AllFinite<uint64_t>(tensor.data, tensor.size(), 0x7FF0000000000000);
    case DType::kBFloat16:
      return AllFinite<uint16_t>(tensor.data, tensor.size(), 0x7F80);
    default:
      return AllFinite<uint32_t>(tensor.data, tensor.size(), 0x7F800000);
  }
}

// Appends a part's chunks to the file and describes them.
absl::Status WritePart(const TensorPart& part, const std::string& name, const Stream& stream, std::vector<char>& staged,
                       DurableFile& file, proto::CheckpointManifest& partial, std::atomic<int64_t>& written) {
  const Tensor& memory = part.memory;
  auto& tensor = *partial.add_tensors();
  tensor.set_name(part.spec->name);
  tensor.set_role(part.role);
  tensor.set_dtype(std::string(Name(memory.dtype)));
  tensor.set_rows(part.spec->rows);
  tensor.set_columns(part.spec->columns);
  auto& slice = *tensor.add_slices();
  slice.set_row_begin(part.rows.begin);
  slice.set_row_end(part.rows.end);
  slice.set_column_begin(part.columns.begin);
  slice.set_column_end(part.columns.end);
  slice.set_file(name);
  slice.set_offset(file.size());
  slice.set_chunk_rows(std::max<int64_t>(kChunkBytes / (memory.columns * SizeOf(memory.dtype)), 1));
  for (int64_t row = 0; row < memory.rows; row += slice.chunk_rows()) {
    Tensor chunk = memory.RowSlice(row, std::min(slice.chunk_rows(), memory.rows - row));
    if (stream.device() == Device::kCuda) {
      staged.resize(static_cast<size_t>(chunk.bytes()));
      const Tensor host(staged.data(), chunk.dtype, chunk.rows, chunk.columns);
      ISTHMUS_RETURN_IF_ERROR(CopyToHost(chunk, host, stream));
      chunk = host;
    }
    FaultPoint("checkpoint.write");
    if (partial.finite()) partial.set_finite(AllFinite(chunk));
    slice.add_chunk_checksums(XXH3_64bits(chunk.data, static_cast<size_t>(chunk.bytes())));
    ISTHMUS_RETURN_IF_ERROR(file.Append(chunk.data, chunk.bytes()));
    written += chunk.bytes();
  }
  return absl::OkStatus();
}

// Adds the parts of all ranks to the manifest, tensors by role and in the order of the model.
absl::Status MergePartials(const std::vector<std::string>& partials, const std::vector<std::string>& names,
                           proto::CheckpointManifest& manifest) {
  std::map<std::string, size_t> places;
  for (const std::string& name : names) places.emplace(name, places.size());
  manifest.clear_tensors();
  manifest.clear_files();
  manifest.set_finite(true);
  std::map<std::pair<int, size_t>, proto::TensorEntry> tensors;
  for (const std::string& bytes : partials) {
    proto::CheckpointManifest partial;
    if (!partial.ParseFromString(bytes)) return absl::InternalError("a rank's part of the manifest can't be parsed");
    for (auto& tensor : *partial.mutable_tensors()) {
      tensors[{tensor.role(), places[tensor.name()]}].MergeFrom(tensor);
    }
    manifest.mutable_files()->MergeFrom(partial.files());
    manifest.set_finite(manifest.finite() && partial.finite());
  }
  for (auto& [key, tensor] : tensors) *manifest.add_tensors() = std::move(tensor);
  return absl::OkStatus();
}

// Writes a file with a checksum of its own, and lists it.
absl::Status WriteWhole(const std::string& bytes, const char* name, const std::string& folder,
                        proto::CheckpointManifest& manifest) {
  auto& entry = *manifest.add_files();
  entry.set_name(name);
  entry.set_bytes(static_cast<int64_t>(bytes.size()));
  entry.set_checksum(XXH3_64bits(bytes.data(), bytes.size()));
  return WriteDurably(folder + "/" + entry.name(), bytes);
}

}  // namespace

std::string TemporaryFolderOf(const std::string& folder) { return folder + ".tmp"; }

absl::Status PrepareTemporaryFolder(const std::string& folder, int rank) {
  if (rank != 0) return absl::OkStatus();
  const std::string temporary = TemporaryFolderOf(folder);
  std::error_code error;
  FaultPoint("checkpoint.prepare");
  std::filesystem::remove_all(temporary, error);
  if (error) return FileError(temporary, "can't remove an incomplete checkpoint", error.value());
  FaultPoint("checkpoint.make_folder");
  return MakeFolder(temporary);
}

void RemoveTemporaryFolder(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::remove_all(TemporaryFolderOf(folder), ignored);
}

absl::Status WriteParts(const std::string& folder, const std::vector<TensorPart>& parts, const Stream& stream, int rank,
                        proto::CheckpointManifest& partial, std::atomic<int64_t>& written) {
  partial.set_finite(true);
  if (parts.empty()) return absl::OkStatus();
  const std::string name = absl::StrFormat("rank-%04d.tensors", rank);
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(TemporaryFolderOf(folder) + "/" + name));
  std::vector<char> staged;
  for (const TensorPart& part : parts) {
    ISTHMUS_RETURN_IF_ERROR(WritePart(part, name, stream, staged, *file, partial, written));
  }
  auto& entry = *partial.add_files();
  entry.set_name(name);
  entry.set_bytes(file->size());
  FaultPoint("checkpoint.sync");
  return file->Commit();
}

absl::Status CompleteFolder(const std::string& folder, const CheckpointContents& contents,
                            const std::vector<std::string>& partials, const std::vector<std::string>& names,
                            SavedCheckpoint& saved) {
  const std::string temporary = TemporaryFolderOf(folder);
  proto::CheckpointManifest manifest = contents.manifest;
  manifest.set_version(kCheckpointVersion);
  manifest.set_program_version(kVersion);
  ISTHMUS_RETURN_IF_ERROR(MergePartials(partials, names, manifest));
  FaultPoint("checkpoint.tokenizer");
  if (!contents.tokenizer_model.empty()) {
    ISTHMUS_RETURN_IF_ERROR(WriteWhole(contents.tokenizer_model, kTokenizerFile, temporary, manifest));
  }
  FaultPoint("checkpoint.clusters");
  if (!contents.clusters.empty()) {
    ISTHMUS_RETURN_IF_ERROR(WriteWhole(NpyBytes(contents.clusters), kClustersFile, temporary, manifest));
  }
  if (!contents.token_gaps.empty()) {
    ISTHMUS_RETURN_IF_ERROR(WriteWhole(NpyBytes(contents.token_gaps), kTokenGapsFile, temporary, manifest));
  }
  for (const auto& file : manifest.files()) saved.bytes += file.bytes();
  saved.finite = manifest.finite();
  // A manifest that could not be read again is not written.
  proto::CheckpointManifest checked = manifest;
  ISTHMUS_RETURN_IF_ERROR(CheckManifest(checked, temporary));
  FaultPoint("checkpoint.manifest");
  ISTHMUS_RETURN_IF_ERROR(WriteManifest(temporary, manifest));
  FaultPoint("checkpoint.rename");
  // This fails, and leaves both, if a checkpoint has the name already.
  if (std::rename(temporary.c_str(), folder.c_str()) != 0) {
    return FileError(folder, "can't rename the complete checkpoint to its name", errno);
  }
  FaultPoint("checkpoint.renamed");
  const auto parent = std::filesystem::path(folder).parent_path();
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(parent.string()));
  // The first checkpoint has made that folder itself.
  return SyncFolder(parent.parent_path().string());
}

std::vector<std::string> NamesOf(const ParameterStore& parameters) {
  std::vector<std::string> names;
  for (const ParameterSpec& spec : parameters.specs()) names.push_back(spec.name);
  return names;
}

absl::StatusOr<SavedCheckpoint> ShareOutcome(Communicator& world, const SavedCheckpoint& saved) {
  double figures[] = {static_cast<double>(saved.bytes), saved.finite ? 1.0 : 0.0};
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(figures)));
  return SavedCheckpoint{static_cast<int64_t>(figures[0]), figures[1] > 0};
}

absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const std::string& folder, const CheckpointContents& contents,
                                               const ParameterStore& parameters, const Mesh& mesh,
                                               const Optimizer* optimizer) {
  Communicator& world = mesh.world();
  SavedCheckpoint saved;
  const auto save = [&]() -> absl::Status {
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, PrepareTemporaryFolder(folder, world.rank())));
    proto::CheckpointManifest partial;
    const auto parts = PartsToSave(parameters, optimizer, mesh);
    std::atomic<int64_t> written = 0;
    ISTHMUS_RETURN_IF_ERROR(
        AgreeOnStatus(world, WriteParts(folder, parts, parameters.stream(), world.rank(), partial, written)));
    FaultPoint("checkpoint.gather");
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> partials, GatherBytes(world, partial.SerializeAsString()));
    absl::Status complete;
    if (world.rank() == 0) complete = CompleteFolder(folder, contents, partials, NamesOf(parameters), saved);
    return AgreeOnStatus(world, complete);
  };
  if (const absl::Status status = save(); !status.ok()) {
    if (world.rank() == 0) RemoveTemporaryFolder(folder);
    return status;
  }
  return ShareOutcome(world, saved);
}

}  // namespace isthmus
