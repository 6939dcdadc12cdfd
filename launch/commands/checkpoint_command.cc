#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/model_tensors.h"
#include "checkpoint/statistics.h"
#include "checkpoint/stored_clusters.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/verify.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns the checkpoints that `path` names: itself, or all of a run folder, newest first.
absl::StatusOr<std::vector<std::string>> NamedCheckpoints(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    ISTHMUS_ASSIGN_OR_RETURN(std::string folder, FindCheckpoint(path));
    return std::vector<std::string>{std::move(folder)};
  }
  std::vector<std::string> folders;
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> found, ListCheckpoints(path));
  for (StoredCheckpoint& stored : found) folders.push_back(std::move(stored.folder));
  // The reader of a folder without a readable manifest reports it.
  if (folders.empty()) folders.push_back(path);
  return folders;
}

absl::Status VerifyAll(absl::Span<const std::string> arguments, std::ostream& out) {
  std::vector<std::string> paths;
  Options options("isthmus checkpoint verify", "Reads every byte of checkpoints and compares it with its checksum.");
  options.Positional("FOLDER", "a checkpoint, or a run folder: all of its checkpoints", &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  std::vector<std::string> problems;
  for (const std::string& path : paths) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> folders, NamedCheckpoints(path));
    for (const std::string& folder : folders) {
      const VerifiedCheckpoint verified = VerifyCheckpoint(folder);
      if (verified.problems.empty()) {
        out << absl::StrFormat("%s: sound: step %d, %d bytes read\n", folder, verified.step, verified.bytes);
      }
      problems.insert(problems.end(), verified.problems.begin(), verified.problems.end());
    }
  }
  if (problems.empty()) return absl::OkStatus();
  std::string text = problems.front();
  for (size_t i = 1; i < problems.size(); ++i) absl::StrAppend(&text, "\n  ", problems[i]);
  return absl::DataLossError(text);
}

struct OpenedCheckpoint {
  explicit OpenedCheckpoint(std::string path, proto::CheckpointManifest contents)
      : folder(std::move(path)), manifest(std::move(contents)), reader(folder, manifest) {}
  std::string folder;
  proto::CheckpointManifest manifest;
  TensorReader reader;
};

absl::StatusOr<std::unique_ptr<OpenedCheckpoint>> OpenCheckpoint(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string folder, FindCheckpoint(path));
  ISTHMUS_ASSIGN_OR_RETURN(proto::CheckpointManifest manifest, ReadManifest(folder));
  return std::make_unique<OpenedCheckpoint>(folder, std::move(manifest));
}

int64_t BytesOf(const proto::TensorEntry& tensor) {
  const auto dtype = StoredDType(tensor.dtype());
  return dtype.ok() ? tensor.rows() * tensor.columns() * SizeOf(*dtype) : 0;
}

std::string ShapeOf(const proto::TensorEntry& tensor) {
  return absl::StrCat("[", tensor.rows(), ", ", tensor.columns(), "]");
}

absl::Status ShowOne(OpenedCheckpoint& opened, std::ostream& out) {
  const proto::CheckpointManifest& manifest = opened.manifest;
  int64_t bytes = 0;
  for (const auto& tensor : manifest.tensors()) bytes += BytesOf(tensor);
  out << absl::StrFormat("%s: step %d, %d tokens, %.1f s of training, program %s, format %d, %d tensors, %d bytes\n",
                         opened.folder, manifest.step(), manifest.tokens(), manifest.elapsed_seconds(),
                         manifest.program_version(), manifest.version(), manifest.tensors_size(), bytes);
  if (manifest.has_validation_loss()) out << absl::StrFormat("validation loss %.6f\n", manifest.validation_loss());
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<int32_t> clusters, LoadClusters(opened.folder, manifest));
  if (!clusters.empty()) {
    out << absl::StrFormat("%s: %d clusters of %d tokens\n", kClustersFile,
                           manifest.config().model().head().clusters().count(), clusters.size());
  }
  out << absl::StrFormat("%-58s %-5s %-16s %7s %14s %12s %12s %12s %12s\n", "tensor", "dtype", "shape", "slices",
                         "bytes", "minimum", "maximum", "mean", "rms");
  for (const auto& tensor : manifest.tensors()) {
    ISTHMUS_ASSIGN_OR_RETURN(const TensorStatistics statistics, StatisticsOf(tensor, opened.reader));
    out << absl::StrFormat("%-58s %-5s %-16s %7d %14d %12.4e %12.4e %12.4e %12.4e",
                           TensorTitle(tensor.name(), tensor.role()), tensor.dtype(), ShapeOf(tensor),
                           tensor.slices_size(), BytesOf(tensor), statistics.minimum, statistics.maximum,
                           statistics.mean, statistics.root_mean_square);
    if (statistics.not_finite > 0) out << "  NOT FINITE: " << statistics.not_finite;
    out << "\n";
  }
  return absl::OkStatus();
}

absl::Status ShowDifferences(OpenedCheckpoint& first, OpenedCheckpoint& second, std::ostream& out) {
  std::map<std::pair<int, std::string>, const proto::TensorEntry*> others;
  for (const auto& tensor : second.manifest.tensors()) others[{tensor.role(), tensor.name()}] = &tensor;
  out << absl::StrFormat("%s: step %d\n%s: step %d\n", first.folder, first.manifest.step(), second.folder,
                         second.manifest.step());
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<int32_t> clusters, LoadClusters(first.folder, first.manifest));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<int32_t> other_clusters, LoadClusters(second.folder, second.manifest));
  if (clusters != other_clusters) out << kClustersFile << ": the clusters of tokens differ\n";
  int equal = 0;
  for (const auto& tensor : first.manifest.tensors()) {
    const std::string title = TensorTitle(tensor.name(), tensor.role());
    const auto found = others.find({tensor.role(), tensor.name()});
    if (found == others.end()) {
      out << title << ": only in the first\n";
      continue;
    }
    const proto::TensorEntry& other = *found->second;
    others.erase(found);
    if (other.rows() != tensor.rows() || other.columns() != tensor.columns()) {
      out << title << ": " << ShapeOf(tensor) << " and " << ShapeOf(other) << "\n";
      continue;
    }
    ISTHMUS_ASSIGN_OR_RETURN(const TensorDifference difference,
                             DifferenceOf(tensor, first.reader, other, second.reader));
    if (difference.different == 0 && tensor.dtype() == other.dtype()) {
      ++equal;
      continue;
    }
    out << absl::StrFormat("%s: %d of %d elements differ, by %.4e at most, %.4e of the norm", title,
                           difference.different, tensor.rows() * tensor.columns(), difference.largest,
                           difference.relative);
    if (tensor.dtype() != other.dtype()) out << ", " << tensor.dtype() << " and " << other.dtype();
    out << "\n";
  }
  for (const auto& [key, tensor] : others) {
    out << TensorTitle(tensor->name(), tensor->role()) << ": only in the second\n";
  }
  out << equal << " tensors are equal\n";
  return absl::OkStatus();
}

absl::Status ShowCheckpoints(absl::Span<const std::string> arguments, std::ostream& out) {
  std::vector<std::string> paths;
  Options options("isthmus checkpoint show", "Lists what a checkpoint holds, or how two differ.");
  options.Positional("FOLDER [FOLDER]", "a checkpoint, or a run folder (its newest one); two of them are compared",
                     &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (paths.size() > 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("isthmus checkpoint show: found ", paths.size(), " folders; accepts one or two"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const auto first, OpenCheckpoint(paths[0]));
  if (paths.size() == 1) return ShowOne(*first, out);
  ISTHMUS_ASSIGN_OR_RETURN(const auto second, OpenCheckpoint(paths[1]));
  return ShowDifferences(*first, *second, out);
}

}  // namespace

absl::Status CheckpointCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  const std::string what = arguments.empty() ? "" : arguments.front();
  if (what == "verify") return VerifyAll(arguments.subspan(1), out);
  if (what == "show") return ShowCheckpoints(arguments.subspan(1), out);
  if (what == "--help" || what == "-h") {
    out << "usage: isthmus checkpoint verify|show ...\n\n"
           "  verify  read every byte and compare it with its checksum\n"
           "  show    list tensors with their statistics, or how two checkpoints differ\n\n"
           "`isthmus checkpoint show --help` lists its options.\n";
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("isthmus checkpoint: found \"", what, "\"; accepts verify or show"));
}

}  // namespace isthmus
