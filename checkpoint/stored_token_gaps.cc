#include "checkpoint/stored_token_gaps.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>

#include <cstddef>

#include "checkpoint/manifest.h"
#include "checkpoint/tensor_reader.h"
#include "model/train/token_gaps.h"
#include "runtime/npy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<std::vector<int64_t>> ReadState(const std::string& path, const proto::CheckpointManifest& manifest) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto array, NpyArray::Open(path));
  // The manifest may state any vocabulary, and three times that may not be a number.
  const int64_t vocabulary = manifest.config().model().vocabulary();
  const bool of_the_model = array->type() == NpyType::kInt64 && array->shape().size() == 1 && array->size() % 3 == 0 &&
                            array->size() / 3 == vocabulary;
  if (!of_the_model) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": found ", array->Describe(),
                                                   "; accepts a vector of int64, three numbers for each of ",
                                                   vocabulary, " tokens of the vocabulary"));
  }
  std::vector<int64_t> state(static_cast<size_t>(array->size()));
  ISTHMUS_RETURN_IF_ERROR(array->ReadIntegers(0, array->size(), state.data()));
  const absl::Status possible = TokenGaps::CheckState(state, manifest.step());
  if (!possible.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", possible.message()));
  return state;
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> LoadTokenGaps(const std::string& folder,
                                                   const proto::CheckpointManifest& manifest) {
  const auto file = absl::c_find_if(manifest.files(), [](const auto& entry) { return entry.name() == kTokenGapsFile; });
  if (file == manifest.files().end()) return std::vector<int64_t>();
  const std::string path = absl::StrCat(folder, "/", kTokenGapsFile);
  if (!file->has_checksum()) {
    return absl::DataLossError(path + ": has no checksum in the manifest; use another checkpoint");
  }
  ISTHMUS_RETURN_IF_ERROR(TensorReader(folder, manifest).CheckWholeFile(*file));
  auto state = ReadState(path, manifest);
  // Its bytes are those that were written, so no other copy is better.
  if (absl::IsInvalidArgument(state.status())) return absl::DataLossError(state.status().message());
  return state;
}

}  // namespace isthmus
