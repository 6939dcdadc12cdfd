#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "parallel/host_bytes.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

// Writes this rank's slices and describes them in `partial`.
absl::Status WriteSlices(const std::string& folder, const ParameterStore& parameters, const Mesh& mesh,
                         proto::CheckpointManifest& partial) {
  if (mesh.data_rank() != 0) return absl::OkStatus();
  const std::string name = absl::StrFormat("rank-%04d.weights", mesh.tensor_rank());
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(folder + "/" + name));
  const auto specs = parameters.specs();
  std::vector<char> staged;
  for (size_t i = 0; i < specs.size(); ++i) {
    const ParameterSpec& spec = specs[i];
    Tensor weight = parameters.Weight(static_cast<int>(i));
    // Of what all tensor ranks hold alike the first one writes its copy.
    if ((spec.sharding == Sharding::kReplicated && mesh.tensor_rank() != 0) || weight.size() == 0) continue;
    if (parameters.stream().device() == Device::kCuda) {
      staged.resize(static_cast<size_t>(weight.bytes()));
      const Tensor host(staged.data(), weight.dtype, weight.rows, weight.columns);
      ISTHMUS_RETURN_IF_ERROR(CopyToHost(weight, host, parameters.stream()));
      weight = host;
    }
    auto& tensor = *partial.add_tensors();
    tensor.set_name(spec.name);
    tensor.set_dtype(std::string(Name(weight.dtype)));
    tensor.set_rows(spec.rows);
    tensor.set_columns(spec.columns);
    auto& slice = *tensor.add_slices();
    const bool columns = spec.sharding == Sharding::kColumns;
    slice.set_row_begin(columns ? 0 : spec.shard.begin);
    slice.set_row_end(columns ? spec.rows : spec.shard.end);
    slice.set_column_begin(columns ? spec.shard.begin : 0);
    slice.set_column_end(columns ? spec.shard.end : spec.columns);
    slice.set_file(name);
    slice.set_offset((file->size() + 127) / 128 * 128);
    slice.set_checksum(XXH3_64bits(weight.data, static_cast<size_t>(weight.bytes())));
    ISTHMUS_RETURN_IF_ERROR(file->WriteAt(slice.offset(), weight.data, weight.bytes()));
  }
  return file->Commit();
}

absl::Status PrepareFolder(const std::string& folder, int rank) {
  if (rank != 0) return absl::OkStatus();
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error) return FileError(folder, "can't remove an incomplete checkpoint", error.value());
  return MakeFolder(folder);
}

// Adds the slices of all ranks to the manifest, tensors in the order of the model.
absl::Status MergeTensors(const std::vector<std::string>& partials, const ParameterStore& parameters,
                          proto::CheckpointManifest& manifest) {
  manifest.clear_tensors();
  for (const ParameterSpec& spec : parameters.specs()) manifest.add_tensors()->set_name(spec.name);
  for (const std::string& bytes : partials) {
    proto::CheckpointManifest partial;
    if (!partial.ParseFromString(bytes)) return absl::InternalError("a rank's part of the manifest can't be parsed");
    for (const auto& tensor : partial.tensors()) {
      const int index = parameters.table().Find(tensor.name());
      if (index < 0) return absl::InternalError(absl::StrCat("unknown tensor ", tensor.name()));
      manifest.mutable_tensors(index)->MergeFrom(tensor);
    }
  }
  return absl::OkStatus();
}

// Rank 0's last part: tokenizer, manifest, and the rename that makes the checkpoint complete.
absl::Status CompleteFolder(const std::string& folder, const std::string& temporary, const std::string& tokenizer_path,
                            const proto::CheckpointManifest& manifest) {
  if (!tokenizer_path.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::string tokenizer, ReadFile(tokenizer_path));
    ISTHMUS_RETURN_IF_ERROR(WriteDurably(temporary + "/tokenizer.model", tokenizer));
  }
  ISTHMUS_RETURN_IF_ERROR(WriteManifest(temporary, manifest));
  // Fails, and leaves both, where a checkpoint has the name already.
  if (std::rename(temporary.c_str(), folder.c_str()) != 0) {
    return FileError(folder, "can't rename the complete checkpoint to its name", errno);
  }
  ISTHMUS_RETURN_IF_ERROR(SyncFolder(std::filesystem::path(folder).parent_path().string()));
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveCheckpoint(const std::string& folder, const CheckpointContents& contents,
                            const ParameterStore& parameters, const Mesh& mesh) {
  Communicator& world = mesh.world();
  const std::string temporary = folder + ".tmp";
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, PrepareFolder(temporary, world.rank())));
  proto::CheckpointManifest partial;
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, WriteSlices(temporary, parameters, mesh, partial)));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> partials, AllGatherBytes(world, partial.SerializeAsString()));
  absl::Status complete;
  if (world.rank() == 0) {
    proto::CheckpointManifest manifest = contents.manifest;
    manifest.set_version(kCheckpointVersion);
    manifest.set_program_version(kVersion);
    complete = MergeTensors(partials, parameters, manifest);
    if (complete.ok()) complete = CompleteFolder(folder, temporary, contents.tokenizer_path, manifest);
  }
  return AgreeOnStatus(world, complete);
}

}  // namespace isthmus
