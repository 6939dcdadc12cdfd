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

using Roles = std::set<proto::TensorRole>;

// Finds the stored tensors of the model's parameters. `wanted` lists the roles by parameter. A tensor of another role is
// unexpected if `refused` has it, and so is one of a parameter that the model lacks.
absl::StatusOr<StoredTensors> FindTensors(const std::string& folder, const proto::CheckpointManifest& manifest,
                                          const ParameterTable& table, const std::vector<Roles>& wanted,
                                          const Roles& refused) {
  StoredTensors stored;
  for (const auto& tensor : manifest.tensors()) stored[{tensor.role(), tensor.name()}] = &tensor;
  std::vector<Key> missing, unexpected;
  Roles known;
  for (size_t i = 0; i < table.specs.size(); ++i) {
    const ParameterSpec& spec = table.specs[i];
    known.insert(wanted[i].begin(), wanted[i].end());
    for (const proto::TensorRole role : wanted[i]) {
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
    const int spec = table.Find(key.second);
    const bool taken = spec >= 0 && wanted[static_cast<size_t>(spec)].contains(key.first);
    if (!taken && (refused.contains(key.first) || (spec < 0 && known.contains(key.first)))) unexpected.push_back(key);
  }
  if (!missing.empty() || !unexpected.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": missing tensors: ", Titles(missing), "; unexpected: ", Titles(unexpected), kRemedy));
  }
  return stored;
}

// The weights of all parameters.
std::vector<Roles> WeightsAlone(const ParameterTable& table) {
  return std::vector<Roles>(table.specs.size(), Roles{proto::WEIGHT});
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
  const ParameterTable table = ParametersOf(config);
  return FindTensors(folder, manifest, table, WeightsAlone(table), {}).status();
}

absl::Status LoadWeights(const std::string& folder, const proto::CheckpointManifest& manifest,
                         const ParameterStore& parameters) {
  ISTHMUS_ASSIGN_OR_RETURN(const StoredTensors stored,
                           FindTensors(folder, manifest, parameters.table(), WeightsAlone(parameters.table()), {}));
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
  std::vector<Roles> wanted = WeightsAlone(parameters.table());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const std::vector<proto::TensorRole> kept = optimizer.Kept(static_cast<int>(i));
    wanted[i].insert(kept.begin(), kept.end());
  }
  // State that the optimizer doesn't keep is another optimizer's, or another precision's.
  ISTHMUS_ASSIGN_OR_RETURN(const StoredTensors stored, FindTensors(folder, manifest, parameters.table(), wanted,
                                                                   {proto::MASTER, proto::FIRST_MOMENT,
                                                                    proto::SECOND_MOMENT, proto::MAX_SECOND_MOMENT}));
  TensorReader reader(folder, manifest);
  for (const auto& file : manifest.files()) {
    if (file.has_checksum()) ISTHMUS_RETURN_IF_ERROR(reader.CheckWholeFile(file));
  }
  return LoadParts(PartsToLoad(parameters, &optimizer), stored, parameters.stream(), reader);
}

}  // namespace isthmus
