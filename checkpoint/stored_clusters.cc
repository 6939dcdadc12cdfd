#include "checkpoint/stored_clusters.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>

#include "checkpoint/manifest.h"
#include "checkpoint/tensor_reader.h"
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "runtime/data/token_cluster_file.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::vector<int32_t>> LoadClusters(const std::string& folder,
                                                  const proto::CheckpointManifest& manifest) {
  const proto::ModelConfig& model = manifest.config().model();
  if (!HeadHasClusters(model)) return std::vector<int32_t>();
  const std::string path = absl::StrCat(folder, "/", kClustersFile);
  const auto file = absl::c_find_if(manifest.files(), [](const auto& entry) { return entry.name() == kClustersFile; });
  if (file == manifest.files().end() || !file->has_checksum()) {
    return absl::DataLossError(absl::StrCat(path, ": is not among the files of the checkpoint, whose head needs it"));
  }
  ISTHMUS_RETURN_IF_ERROR(TensorReader(folder, manifest).CheckWholeFile(*file));
  auto clusters = ReadTokenClusters(path, model.vocabulary());
  absl::Status status = clusters.status();
  if (status.ok()) status = CheckClusters(model, *clusters);
  // Its bytes are those that were written, so no other copy is better.
  if (absl::IsInvalidArgument(status)) return absl::DataLossError(absl::StrCat(folder, ": ", status.message()));
  if (!status.ok()) return status;
  return clusters;
}

}  // namespace isthmus
