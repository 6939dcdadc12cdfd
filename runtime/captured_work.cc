#include "runtime/captured_work.h"

#include <absl/memory/memory.h>

#include <utility>

#include "runtime/cuda/graph.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<CapturedWork>> CapturedWork::Capture(const Stream& stream,
                                                                    const std::function<absl::Status()>& work) {
  if (!stream.on_gpu()) {
    return absl::UnimplementedError("work on the CPU can't be captured: it runs when it is given");
  }
  ISTHMUS_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Graph> graph, cuda::Graph::Capture(stream.cuda(), work));
  return absl::WrapUnique(new CapturedWork(std::move(graph)));
}

CapturedWork::CapturedWork(std::unique_ptr<cuda::Graph> graph) : graph_(std::move(graph)) {}
CapturedWork::~CapturedWork() = default;

absl::Status CapturedWork::Start() const { return graph_->Launch(); }

}  // namespace isthmus
