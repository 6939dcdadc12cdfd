// The cost of checkpoints of the GPT-2-sized model. It gives the rates of saving and loading beside the rates of the
// same disk in the same run. It also gives the time that a save in the background adds to the steps beside it.
//
// The disk's rates are those of plain sequential writing and reading of as many bytes in one file of the same folder.
// The pieces have the size of a checkpoint's chunks. The file is written with an fsync at the end, and read after it
// was dropped from the page cache. Saves and loads are measured in turn with them, each after a rest, because a disk is
// slower behind other writes.
//
//   checkpoint_bench --folder runs          one rank, all its threads
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "checkpoint/background_save.h"
#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "launch/options.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "runtime/durable_file.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kPiece = int64_t{1} << 22;
constexpr int64_t kInterval = 50;  // steps between checkpoints

struct Request {
  std::string folder = ".", json;
  int64_t repeats = 5, sequences = 1, layers = 12;
  bool background_only = false;
};

proto::RunConfig ConfigOf(const Request& request) {
  proto::RunConfig config;
  auto& model = *config.mutable_model();
  model.set_vocabulary(50257);
  model.set_width(768);
  model.set_layers(static_cast<int32_t>(request.layers));
  model.set_heads(12);
  model.set_kv_heads(12);
  model.set_head_dim(64);
  model.set_feed_forward(2048);
  config.mutable_data()->set_sequence_length(1024);
  config.mutable_mesh()->set_tensor(1);
  config.mutable_mesh()->set_data(1);
  config.mutable_batch()->set_sequences(request.sequences);
  config.mutable_batch()->set_micro_batch(1);
  config.mutable_precision()->set_loss_chunk(512);
  config.mutable_optimizer()->set_learning_rate(1e-4);
  return config;
}

void Rest() {
  sync();
  std::this_thread::sleep_for(std::chrono::seconds(3));
}

template <typename Work>
absl::StatusOr<double> Timed(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  ISTHMUS_RETURN_IF_ERROR(work());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Makes later reads of the file come from the disk.
absl::Status DropFromCache(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open", errno);
  fsync(descriptor);  // DONTNEED keeps dirty pages
  const int error = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  close(descriptor);
  return error == 0 ? absl::OkStatus() : FileError(path, "can't drop from the page cache", error);
}

// Writes the bytes from memory that is as large as the file, as a save does, too.
absl::Status WritePlain(const std::string& path, const std::vector<char>& data) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return FileError(path, "can't create", errno);
  const auto size = static_cast<int64_t>(data.size());
  for (int64_t at = 0; at < size; at += kPiece) {
    const auto piece = static_cast<size_t>(std::min(kPiece, size - at));
    if (write(descriptor, data.data() + at, piece) != static_cast<ssize_t>(piece)) {
      return FileError(path, "can't write", errno);
    }
  }
  if (fsync(descriptor) != 0) return FileError(path, "can't flush", errno);
  close(descriptor);
  return absl::OkStatus();
}

absl::Status ReadPlain(const std::string& path, std::vector<char>& data) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open", errno);
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  for (size_t at = 0; at < data.size();) {
    const ssize_t got = read(descriptor, data.data() + at, std::min(static_cast<size_t>(kPiece), data.size() - at));
    if (got <= 0) return FileError(path, "can't read", errno);
    at += static_cast<size_t>(got);
  }
  close(descriptor);
  return absl::OkStatus();
}

class Bench {
 public:
  explicit Bench(const Request& request) : request_(request), checkpoints_(request.folder + "/checkpoint-bench") {}
  ~Bench() {
    std::error_code ignored;
    std::filesystem::remove_all(checkpoints_, ignored);
  }

  absl::Status Prepare() {
    std::error_code ignored;
    std::filesystem::remove_all(checkpoints_, ignored);
    ISTHMUS_RETURN_IF_ERROR(MakeFolder(checkpoints_ + "/checkpoints"));
    world_ = MakeSelfCommunicator();
    ISTHMUS_ASSIGN_OR_RETURN(mesh_, Mesh::Create(*world_, 1, 1));
    ISTHMUS_ASSIGN_OR_RETURN(model_, TrainingModel::Create(ConfigOf(request_), *mesh_, stream_));
    ISTHMUS_RETURN_IF_ERROR(model_->InitializeWeights(1));
    ids_.resize(static_cast<size_t>(request_.sequences * 1024));
    for (size_t i = 0; i < ids_.size(); ++i) {
      ids_[i] = static_cast<int32_t>(Philox::Words(1, RandomPurpose::kTest, 0, i)[0] % 50257);
    }
    return Step().status();  // so that moments are numbers like any others
  }

  // Measures rates of the disk, of saves and of loads: all bytes by all seconds. A disk's cache favours whatever comes
  // first, so each kind comes first as often as second.
  absl::Status MeasureRates() {
    double written = 0, saved = 0, read = 0, loaded = 0;  // seconds
    std::vector<char> data;
    for (int64_t repeat = 0; repeat <= 2 * request_.repeats; ++repeat) {
      const std::string folder = CheckpointFolder(checkpoints_, repeat), plain = checkpoints_ + "/plain";
      double save = 0, write = 0, reading = 0, load = 0;
      const auto write_plain = [&]() -> absl::Status {
        Rest();
        ISTHMUS_ASSIGN_OR_RETURN(write, Timed([&] { return WritePlain(plain, data); }));
        return absl::OkStatus();
      };
      const auto read_plain = [&]() -> absl::Status {
        ISTHMUS_RETURN_IF_ERROR(DropFromCache(plain));
        ISTHMUS_ASSIGN_OR_RETURN(reading, Timed([&] { return ReadPlain(plain, data); }));
        return absl::OkStatus();
      };
      const bool plain_first = repeat % 2 == 1;
      if (plain_first) ISTHMUS_RETURN_IF_ERROR(write_plain());
      ISTHMUS_ASSIGN_OR_RETURN(save, Save(folder));
      if (data.empty()) data.assign(static_cast<size_t>(bytes_), 'x');
      if (!plain_first) ISTHMUS_RETURN_IF_ERROR(write_plain());
      if (plain_first) ISTHMUS_RETURN_IF_ERROR(read_plain());
      ISTHMUS_ASSIGN_OR_RETURN(load, Load(folder));
      if (!plain_first) ISTHMUS_RETURN_IF_ERROR(read_plain());
      std::error_code ignored;
      std::filesystem::remove_all(folder, ignored);
      std::filesystem::remove(plain, ignored);
      absl::PrintF("%d: disk writes %.2f GB/s, save %.2f, disk reads %.2f, load %.2f%s\n", repeat, bytes_ / write / 1e9,
                   bytes_ / save / 1e9, bytes_ / reading / 1e9, bytes_ / load / 1e9,
                   repeat == 0 ? " (not counted: touches memory first)" : "");
      std::fflush(stdout);
      if (repeat == 0) continue;
      written += write;
      saved += save;
      read += reading;
      loaded += load;
    }
    const double bytes = 2.0 * static_cast<double>(request_.repeats) * bytes_;
    Report("save_bytes_per_second", bytes / saved, "disk_write_bytes_per_second", bytes / written,
           "save_ratio_to_disk");
    Report("load_bytes_per_second", bytes / loaded, "disk_read_bytes_per_second", bytes / read, "load_ratio_to_disk");
    return absl::OkStatus();
  }

  // Takes steps without a save, then as many as one save takes, in turn. The save's cost is the time of those and of
  // the staging beyond that of as many undisturbed steps.
  absl::Status MeasureBackground() {
    BackgroundSave background(*mesh_);
    ISTHMUS_RETURN_IF_ERROR(background.Reserve(model_->parameters(), model_->optimizer()));
    std::vector<double> plain, staging, disturbed, whole;
    std::vector<int64_t> steps_beside;
    ISTHMUS_RETURN_IF_ERROR(Step().status());
    for (int64_t repeat = 1; repeat <= request_.repeats; ++repeat) {
      for (int i = 0; i < 2; ++i) {
        ISTHMUS_ASSIGN_OR_RETURN(const double undisturbed, Step());
        plain.push_back(undisturbed);
      }
      const std::string folder = CheckpointFolder(checkpoints_, repeat);
      CheckpointContents contents;
      contents.manifest.set_step(repeat);
      const auto start = std::chrono::steady_clock::now();
      ISTHMUS_ASSIGN_OR_RETURN(
          const double staged,
          Timed([&] { return background.Start(folder, contents, model_->parameters(), model_->optimizer(), [] {}); }));
      double beside = 0;
      int64_t steps = 0;
      for (bool complete = false; !complete; ++steps) {
        ISTHMUS_ASSIGN_OR_RETURN(const double seconds, Step());
        beside += seconds;
        ISTHMUS_ASSIGN_OR_RETURN(const auto outcome, background.Poll(false));
        complete = outcome.has_value();
      }
      whole.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      staging.push_back(staged);
      disturbed.push_back(staged + beside);
      steps_beside.push_back(steps);
      std::error_code ignored;
      std::filesystem::remove_all(folder, ignored);
    }
    const double step = Median(plain);
    std::vector<double> added;
    for (size_t i = 0; i < disturbed.size(); ++i) {
      added.push_back(disturbed[i] - static_cast<double>(steps_beside[i]) * step);
    }
    const double cost = Median(added);
    row_["step_seconds"] = step;
    row_["tokens_per_step"] = ids_.size();
    row_["staging_seconds"] = Median(staging);
    row_["background_save_seconds"] = Median(whole);
    row_["background_save_adds_seconds"] = cost;
    row_["background_save_adds_ratio_every_50_steps"] = cost / (kInterval * step);
    absl::PrintF(
        "%d tokens, step %.3f s: a save in the background adds %.3f s, of which staging %.3f s; every %d steps "
        "%.2f %%\n",
        ids_.size(), step, cost, Median(staging), kInterval, 100 * cost / (kInterval * step));
    return absl::OkStatus();
  }

  const nlohmann::json& row() const { return row_; }

 private:
  // Returns seconds, after a rest. Sets bytes_.
  absl::StatusOr<double> Save(const std::string& folder) {
    CheckpointContents contents;
    const std::string name = std::filesystem::path(folder).filename().string();
    contents.manifest.set_step(std::stoll(name.substr(5)));
    Rest();
    return Timed([&]() -> absl::Status {
      ISTHMUS_ASSIGN_OR_RETURN(const auto saved,
                               SaveCheckpoint(folder, contents, model_->parameters(), *mesh_, &model_->optimizer()));
      bytes_ = static_cast<double>(saved.bytes);
      return absl::OkStatus();
    });
  }
  // Returns seconds, with the file read from the disk.
  absl::StatusOr<double> Load(const std::string& folder) {
    ISTHMUS_RETURN_IF_ERROR(DropFromCache(folder + "/rank-0000.tensors"));
    return Timed([&]() -> absl::Status {
      ISTHMUS_ASSIGN_OR_RETURN(const auto manifest, ReadManifest(folder));
      return LoadTrainingState(folder, manifest, model_->parameters(), model_->optimizer());
    });
  }
  absl::StatusOr<double> Step() {
    const Tensor batch(ids_.data(), DType::kInt32, 1, static_cast<int64_t>(ids_.size()));
    return Timed([&] {
      return model_->Step({.ids = batch, .targets = batch, .step = ++steps_, .learning_rate = 1e-4}).status();
    });
  }
  void Report(const char* name, double rate, const char* limit_name, double limit, const char* ratio) {
    row_[name] = rate;
    row_[limit_name] = limit;
    row_[ratio] = rate / limit;
    row_["bytes"] = bytes_;
    absl::PrintF("%.2f GB: %s %.2f GB/s, %s %.2f GB/s: %.1f %%\n", bytes_ / 1e9, name, rate / 1e9, limit_name,
                 limit / 1e9, 100 * rate / limit);
    std::fflush(stdout);
  }

  Request request_;
  std::string checkpoints_;
  Stream stream_;
  std::unique_ptr<Communicator> world_;
  std::optional<Mesh> mesh_;
  std::unique_ptr<TrainingModel> model_;
  std::vector<int32_t> ids_;
  int64_t steps_ = 0;
  double bytes_ = 0;  // of a checkpoint
  nlohmann::json row_;
};

absl::Status Main(const std::vector<std::string>& arguments) {
  Request request;
  Options options("checkpoint_bench", "Measures what checkpoints of a GPT-2-sized model cost.");
  options.Add("folder", "DIR", "on the disk that is measured; takes two checkpoints of 2 GB", &request.folder)
      .Add("repeats", "N",
           "pairs of saves and loads, one after the plain disk and one before it; saves in the background",
           &request.repeats)
      .Add("sequences", "N", "of 1,024 tokens in a step", &request.sequences)
      .Add("layers", "N", "of the model", &request.layers)
      .Add("background-only", "", "leaves out what is compared with the disk", &request.background_only)
      .Add("json", "FILE", "also write the figures there", &request.json);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    std::fputs(options.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (request.repeats < 1 || request.sequences < 1 || request.layers < 1) {
    return absl::InvalidArgumentError("--repeats, --sequences and --layers accept 1 or more");
  }
  SetThreads(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  Bench bench(request);
  ISTHMUS_RETURN_IF_ERROR(bench.Prepare());
  if (!request.background_only) ISTHMUS_RETURN_IF_ERROR(bench.MeasureRates());
  ISTHMUS_RETURN_IF_ERROR(bench.MeasureBackground());
  if (request.json.empty()) return absl::OkStatus();
  return WriteDurably(request.json, bench.row().dump(1) + "\n", FileOwner::kUser);
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  const absl::Status status = isthmus::Main(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 4;
}
