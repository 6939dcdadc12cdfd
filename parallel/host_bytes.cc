#include "parallel/host_bytes.h"

#include <cstring>
#include <utility>

#include "runtime/status.h"

namespace isthmus {

absl::Status BroadcastBytes(Communicator& communicator, std::string& bytes, int root) {
  auto size = static_cast<double>(bytes.size());
  ISTHMUS_RETURN_IF_ERROR(communicator.host().Broadcast(Tensor(&size, DType::kFloat64, 1, 1), root));
  bytes.resize(static_cast<size_t>(size));
  if (bytes.empty()) return absl::OkStatus();
  return communicator.host().Broadcast(Tensor(bytes.data(), DType::kUInt8, 1, static_cast<int64_t>(bytes.size())),
                                       root);
}

absl::StatusOr<std::vector<std::string>> AllGatherBytes(Communicator& communicator, const std::string& bytes) {
  const auto ranks = static_cast<size_t>(communicator.size());
  auto size = static_cast<double>(bytes.size());
  std::vector<double> sizes(ranks);
  ISTHMUS_RETURN_IF_ERROR(communicator.host().AllGather(
      Tensor(&size, DType::kFloat64, 1, 1), Tensor(sizes.data(), DType::kFloat64, 1, static_cast<int64_t>(ranks))));
  size_t longest = 1;
  for (const double each : sizes) longest = std::max(longest, static_cast<size_t>(each));
  std::string mine = bytes, all(longest * ranks, '\0');
  mine.resize(longest);
  ISTHMUS_RETURN_IF_ERROR(
      communicator.host().AllGather(Tensor(mine.data(), DType::kUInt8, 1, static_cast<int64_t>(longest)),
                                    Tensor(all.data(), DType::kUInt8, 1, static_cast<int64_t>(longest * ranks))));
  std::vector<std::string> result;
  for (size_t rank = 0; rank < ranks; ++rank) {
    result.push_back(all.substr(rank * longest, static_cast<size_t>(sizes[rank])));
  }
  return result;
}

absl::StatusOr<std::vector<std::string>> GatherBytes(Communicator& communicator, const std::string& bytes) {
  Communicator& host = communicator.host();
  const auto view = [](std::string& text) {
    return Tensor(text.data(), DType::kUInt8, 1, static_cast<int64_t>(text.size()));
  };
  std::string own = bytes;
  auto size = static_cast<double>(bytes.size());
  const Tensor size_view(&size, DType::kFloat64, 1, 1);
  if (host.rank() != 0) {
    ISTHMUS_RETURN_IF_ERROR(host.Send(size_view, 0));
    if (!own.empty()) ISTHMUS_RETURN_IF_ERROR(host.Send(view(own), 0));
    return std::vector<std::string>();
  }
  std::vector<std::string> result = {std::move(own)};
  for (int rank = 1; rank < host.size(); ++rank) {
    ISTHMUS_RETURN_IF_ERROR(host.Receive(size_view, rank));
    std::string& received = result.emplace_back(static_cast<size_t>(size), '\0');
    if (!received.empty()) ISTHMUS_RETURN_IF_ERROR(host.Receive(view(received), rank));
  }
  return result;
}

}  // namespace isthmus
