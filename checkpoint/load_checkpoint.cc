#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_tensors.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/weights.h"
#include "model/model.h"
#include "runtime/device.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

using Key = std::pair<proto::TensorRole, std::string>;
using StoredTensors = std::map<Key, const proto::TensorEntry*>;

constexpr char kRemedy[] = "; use the checkpoint's own configuration";

std::string Titles(const std::vector<Key>& keys) {
  if (keys.empty()) return "none";
  return absl::StrJoin(
      keys, ", ", [](std::string* out, const Key& key) { absl::StrAppend(out, TensorTitle(key.second, key.first)); });
}

// Finds the stored tensors of these roles, which must be the model's.
absl::StatusOr<StoredTensors> FindTensors(const std::string& folder, const proto::CheckpointManifest& manifest,
                                          const ParameterTable& table, const std::set<proto::TensorRole>& wanted,
                                          const std::set<proto::TensorRole>& refused) {
  StoredTensors stored;
  for (const auto& tensor : manifest.tensors()) stored[{tensor.role(), tensor.name()}] = &tensor;
  std::vector<Key> missing, unexpected;
  for (const proto::TensorRole role : wanted) {
    for (const ParameterSpec& spec : table.specs) {
      const auto found = stored.find({role, spec.name});
      if (found == stored.end()) {
        missing.emplace_back(role, spec.name);
      } else if (found->second->rows() != spec.rows || found->second->columns() != spec.columns) {
        return absl::InvalidArgumentError(absl::StrCat(
            folder, ": tensor ", TensorTitle(spec.name, role), " is [", found->second->rows(), ", ",
            found->second->columns(), "], the model needs [", spec.rows, ", ", spec.columns, "]", kRemedy));
      }
    }
  }
  for (const auto& [key, tensor] : stored) {
    const bool known = table.Find(key.second) >= 0;
    if (refused.contains(key.first) || (wanted.contains(key.first) && !known)) unexpected.push_back(key);
  }
  if (!missing.empty() || !unexpected.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": missing tensors: ", Titles(missing), "; unexpected: ", Titles(unexpected), kRemedy));
  }
  return stored;
}

absl::Status LoadParts(const std::vector<TensorPart>& parts, const StoredTensors& stored, const Stream& stream,
                       TensorReader& reader) {
  std::vector<char> staged;
  for (const TensorPart& part : parts) {
    FaultPoint("checkpoint.load");
    const Tensor& memory = part.memory;
    const bool on_gpu = stream.device() == Device::kCuda;
    if (on_gpu) staged.resize(static_cast<size_t>(memory.bytes()));
    const Tensor host = on_gpu ? Tensor(staged.data(), memory.dtype, memory.rows, memory.columns) : memory;
    const proto::TensorEntry& tensor = *stored.at({part.role, part.spec->name});
    ISTHMUS_RETURN_IF_ERROR(reader.Read(tensor, part.rows, part.columns, host));
    if (on_gpu) ISTHMUS_RETURN_IF_ERROR(CopyFromHost(host, memory, stream));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHolds(const std::string& folder, const proto::CheckpointManifest& manifest,
                        const proto::RunConfig& config) {
  // The table below has entries for every layer, so their number is checked before it is built.
  if (config.model().layers() > manifest.tensors_size()) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": its configuration has ", config.model().layers(),
                                                   " layers, and it holds ", manifest.tensors_size(), " tensors"));
  }
  return FindTensors(folder, manifest, ParametersOf(config), {proto::WEIGHT}, {}).status();
}

absl::Status LoadWeights(const std::string& folder, const proto::CheckpointManifest& manifest,
                         const ParameterStore& parameters) {
  ISTHMUS_ASSIGN_OR_RETURN(const StoredTensors stored,
                           FindTensors(folder, manifest, parameters.table(), {proto::WEIGHT}, {}));
  TensorReader reader(folder, manifest);
  return LoadParts(PartsToLoad(parameters, nullptr), stored, parameters.stream(), reader);
}

absl::Status LoadTrainingState(const std::string& folder, const proto::CheckpointManifest& manifest,
                               const ParameterStore& parameters, const Optimizer& optimizer) {
  bool weights_alone = true;
  for (const auto& tensor : manifest.tensors()) weights_alone = weights_alone && tensor.role() == proto::WEIGHT;
  if (weights_alone) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": holds weights alone, without the optimizer's state: training can't continue from it"));
  }
  std::set<proto::TensorRole> wanted = {proto::WEIGHT, proto::FIRST_MOMENT, proto::SECOND_MOMENT}, refused;
  const bool masters = parameters.compute_type() == DType::kBFloat16;
  (masters ? wanted : refused).insert(proto::MASTER);
  ISTHMUS_ASSIGN_OR_RETURN(const StoredTensors stored,
                           FindTensors(folder, manifest, parameters.table(), wanted, refused));
  TensorReader reader(folder, manifest);
  for (const auto& file : manifest.files()) {
    if (file.has_checksum()) ISTHMUS_RETURN_IF_ERROR(reader.CheckWholeFile(file));
  }
  return LoadParts(PartsToLoad(parameters, &optimizer), stored, parameters.stream(), reader);
}

}  // namespace isthmus
