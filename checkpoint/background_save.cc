#include "checkpoint/background_save.h"

#include <absl/strings/str_cat.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "checkpoint/save_steps.h"
#include "checkpoint/staging.h"
#include "parallel/host_bytes.h"
#include "runtime/caught.h"
#include "runtime/device.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {

BackgroundSave::~BackgroundSave() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundSave::Run(std::function<absl::Status()> work) {
  done_ = false;
  const auto run = [this, work = std::move(work)] {
    // A nice value is a thread's own on Linux. If all cores are busy, saving gets about a tenth of one.
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 10);
    status_ = Caught(work);
    done_ = true;
  };
  const absl::Status started = Caught([&] {
    thread_ = std::thread(run);
    return absl::OkStatus();
  });
  if (started.ok()) return;
  status_ = absl::Status(started.code(), absl::StrCat(folder_, ": can't write the checkpoint: ", started.message()));
  done_ = true;
}

double BackgroundSave::written_ratio() const {
  return to_write_ > 0 ? static_cast<double>(written_) / static_cast<double>(to_write_) : 1;
}

absl::Status BackgroundSave::Join() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(status_, absl::OkStatus());
}

absl::Status BackgroundSave::Reserve(const ParameterStore& parameters, const Optimizer& optimizer) {
  const int64_t bytes =
      StagingBytes(parameters.table(), parameters.compute_type(), optimizer.most_tensors(), mesh_.data_ranks());
  return staged_.Room(DType::kUInt8, 1, bytes, parameters.stream()).status();
}

absl::Status BackgroundSave::Start(const std::string& folder, const CheckpointContents& contents,
                                   const ParameterStore& parameters, const Optimizer& optimizer,
                                   std::function<void()> after) {
  Communicator& world = mesh_.world();
  folder_ = folder;
  contents_ = contents;
  after_ = std::move(after);
  names_ = NamesOf(parameters);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, PrepareTemporaryFolder(folder_, world.rank())));
  parts_ = PartsToSave(parameters, &optimizer, mesh_);
  absl::Status copied = Reserve(parameters, optimizer);
  char* to = copied.ok() ? staged_.Room(DType::kUInt8, 1, staged_.bytes(), parameters.stream())->As<char>() : nullptr;
  to_write_ = 0;
  for (TensorPart& part : parts_) {
    to_write_ += part.memory.bytes();
    FaultPoint("checkpoint.stage");
    const Tensor host(to, part.memory.dtype, part.memory.rows, part.memory.columns);
    to += host.bytes();
    if (copied.ok()) copied = CopyToHost(part.memory, host, parameters.stream());
    part.memory = host;
  }
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, copied));
  partial_.Clear();
  saved_ = {};
  phase_ = Phase::kWriting;
  written_ = 0;
  Run([this, rank = world.rank()] { return WriteParts(folder_, parts_, Stream(), rank, partial_, written_); });
  return absl::OkStatus();
}

absl::Status BackgroundSave::Abandon(const absl::Status& status) {
  phase_ = Phase::kNone;
  if (mesh_.world().rank() == 0) RemoveTemporaryFolder(folder_);
  return status;
}

absl::Status BackgroundSave::BeginCompletion() {
  Communicator& world = mesh_.world();
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, Join()));
  FaultPoint("checkpoint.gather");
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<std::string> partials, GatherBytes(world, partial_.SerializeAsString()));
  phase_ = Phase::kCompleting;
  if (world.rank() != 0) return absl::OkStatus();
  Run([this, partials = std::move(partials)] {
    ISTHMUS_RETURN_IF_ERROR(CompleteFolder(folder_, contents_, partials, names_, saved_));
    after_();
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SavedCheckpoint>> BackgroundSave::Advance() {
  if (phase_ == Phase::kWriting) {
    if (const absl::Status status = BeginCompletion(); !status.ok()) return Abandon(status);
    return std::nullopt;
  }
  if (const absl::Status status = AgreeOnStatus(mesh_.world(), Join()); !status.ok()) return Abandon(status);
  phase_ = Phase::kNone;
  ISTHMUS_ASSIGN_OR_RETURN(const SavedCheckpoint saved, ShareOutcome(mesh_.world(), saved_));
  return saved;
}

absl::StatusOr<std::optional<SavedCheckpoint>> BackgroundSave::Poll(bool wait) {
  while (pending()) {
    if (!wait) {
      double all_done = done_ ? 1 : 0;
      ISTHMUS_RETURN_IF_ERROR(mesh_.world().AllReduceNumbers(absl::MakeSpan(&all_done, 1), Reduction::kMin));
      if (all_done == 0) return std::nullopt;
    }
    auto outcome = Advance();
    if (!outcome.ok() || outcome->has_value()) return outcome;
  }
  return std::nullopt;
}

}  // namespace isthmus
