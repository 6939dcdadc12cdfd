#include "launch/run/head_dump_files.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "parallel/shard.h"
#include "runtime/durable_file.h"
#include "runtime/npy.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// So many elements travel at once.
constexpr int64_t kPiece = int64_t{1} << 22;

NpyType TypeOf(DType type) {
  return type == DType::kFloat64 ? NpyType::kFloat64 : type == DType::kInt32 ? NpyType::kInt32 : NpyType::kFloat32;
}

// Gathers parts of one array, on several ranks.
class ArrayGathering {
 public:
  ArrayGathering(const Mesh& mesh, std::string path, DType type, std::vector<int64_t> shape)
      : world_(mesh.world()), path_(std::move(path)), type_(type), shape_(std::move(shape)) {}

  // Rank 0's own failures are kept until the end: the other ranks send in any case.
  void Open() {
    if (world_.rank() != 0) return;
    auto writer = NpyWriter::Create(path_, TypeOf(type_), shape_);
    status_ = writer.status();
    if (writer.ok()) writer_ = *std::move(writer);
  }

  // Appends the next `size` elements, which `owner` has in `part`. Errors: of collectives.
  absl::Status Append(int owner, const Tensor& part, int64_t size) {
    std::vector<char> received;
    for (int64_t begin = 0; begin < size; begin += kPiece) {
      const int64_t count = std::min(kPiece, size - begin);
      Tensor piece = part.defined() ? part.Reshape(1, part.size()).ColumnSlice(begin, count) : Tensor();
      if (owner != 0 && world_.rank() == owner) ISTHMUS_RETURN_IF_ERROR(world_.Send(piece, 0));
      if (world_.rank() != 0) continue;
      if (owner != 0) {
        received.resize(static_cast<size_t>(count * SizeOf(type_)));
        piece = Tensor(received.data(), type_, 1, count);
        ISTHMUS_RETURN_IF_ERROR(world_.Receive(piece, owner));
      }
      if (status_.ok()) status_ = writer_->Append(piece.data, piece.bytes());
    }
    return absl::OkStatus();
  }

  // Collective.
  absl::Status Close() {
    if (world_.rank() == 0 && status_.ok()) status_ = writer_->Commit();
    return AgreeOnStatus(world_, status_);
  }

 private:
  Communicator& world_;
  std::string path_;
  DType type_;
  std::vector<int64_t> shape_;
  std::optional<NpyWriter> writer_;
  absl::Status status_;
};

}  // namespace

absl::Status WriteHeadDump(const std::string& folder, HeadDump& dump, absl::Span<const uint64_t> counts,
                           const Mesh& mesh) {
  Communicator& world = mesh.world();
  const int tensor = mesh.tensor_ranks(), data = mesh.data_ranks();
  const bool has_down = dump.down.rows > 0;
  const auto own = static_cast<int64_t>(dump.targets.size());
  const auto vocabulary = static_cast<int64_t>(counts.size());
  std::vector<int32_t> classes = dump.classes;
  if (classes.empty()) {
    classes.resize(counts.size());
    std::iota(classes.begin(), classes.end(), 0);
  }
  const auto rows = static_cast<int64_t>(classes.size());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, world.rank() == 0 ? MakeFolder(folder) : absl::OkStatus()));

  // Tensor ranks are adjacent. The first of each data rank has that rank's tokens; those of the first data rank have
  // the vocabulary.
  ArrayGathering hidden(mesh, folder + "/hidden.npy", dump.hidden.type, {own * data, dump.hidden.columns});
  hidden.Open();
  ArrayGathering targets(mesh, folder + "/targets.npy", DType::kInt32, {own * data});
  targets.Open();
  for (int rank = 0; rank < data; ++rank) {
    ISTHMUS_RETURN_IF_ERROR(hidden.Append(rank * tensor, dump.hidden.tensor(), own * dump.hidden.columns));
    ISTHMUS_RETURN_IF_ERROR(targets.Append(rank * tensor, Tensor(dump.targets.data(), DType::kInt32, 1, own), own));
  }
  ISTHMUS_RETURN_IF_ERROR(hidden.Close());
  ISTHMUS_RETURN_IF_ERROR(targets.Close());

  const auto write_rows = [&](const std::string& path, HeadDump::Matrix& part) -> absl::Status {
    ArrayGathering array(mesh, path, part.type, {rows, part.columns});
    array.Open();
    for (int rank = 0; rank < tensor; ++rank) {
      const Range own_rows = ShardOf(vocabulary, tensor, rank);
      const int64_t own_classes = std::count_if(
          classes.begin(), classes.end(), [&](int32_t row) { return row >= own_rows.begin && row < own_rows.end; });
      ISTHMUS_RETURN_IF_ERROR(array.Append(rank, part.tensor(), own_classes * part.columns));
    }
    return array.Close();
  };
  ISTHMUS_RETURN_IF_ERROR(write_rows(folder + (has_down ? "/head-up.npy" : "/head.npy"), dump.weight));
  if (dump.bias.columns > 0) ISTHMUS_RETURN_IF_ERROR(write_rows(folder + "/head-bias.npy", dump.bias));
  if (has_down) {
    ArrayGathering down(mesh, folder + "/head-down.npy", dump.down.type, {dump.down.rows, dump.down.columns});
    down.Open();
    ISTHMUS_RETURN_IF_ERROR(down.Append(0, dump.down.tensor(), dump.down.rows * dump.down.columns));
    ISTHMUS_RETURN_IF_ERROR(down.Close());
  }

  const auto write_counts = [&]() -> absl::Status {
    std::vector<uint64_t> of_classes;
    for (const int32_t row : classes) of_classes.push_back(counts[static_cast<size_t>(row)]);
    ISTHMUS_ASSIGN_OR_RETURN(NpyWriter writer, NpyWriter::Create(folder + "/counts.npy", NpyType::kInt64, {rows}));
    ISTHMUS_RETURN_IF_ERROR(writer.Append(of_classes.data(), rows * 8));
    ISTHMUS_RETURN_IF_ERROR(writer.Commit());
    if (dump.classes.empty()) return absl::OkStatus();
    ISTHMUS_ASSIGN_OR_RETURN(writer, NpyWriter::Create(folder + "/classes.npy", NpyType::kInt32, {rows}));
    ISTHMUS_RETURN_IF_ERROR(writer.Append(classes.data(), rows * 4));
    return writer.Commit();
  };
  return AgreeOnStatus(world, world.rank() == 0 ? write_counts() : absl::OkStatus());
}

}  // namespace isthmus
