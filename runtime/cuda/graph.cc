#include "runtime/cuda/graph.h"

#include <absl/memory/memory.h>
#include <cuda_runtime.h>

#include <utility>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {

struct Graph::State {
  const Context& context;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;

  ~State() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
};

Graph::Graph(std::unique_ptr<State> state) : state_(std::move(state)) {}
Graph::~Graph() = default;

absl::StatusOr<std::unique_ptr<Graph>> Graph::Capture(const Context& context,
                                                      const std::function<absl::Status()>& work) {
  std::unique_ptr<State> state(new State{context});
  // A capture's prohibitions bind only this thread; NCCL's and the loader's threads go on.
  ISTHMUS_RETURN_IF_ERROR(
      Check(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"));
  absl::Status status = work();
  // This runs also after an error: the stream could not be used otherwise.
  status.Update(Check(cudaStreamEndCapture(context.stream, &state->graph), "cudaStreamEndCapture"));
  if (status.ok()) status = Check(cudaGraphInstantiate(&state->executable, state->graph, 0), "cudaGraphInstantiate");
  if (status.ok()) status = Check(cudaGraphUpload(state->executable, context.stream), "cudaGraphUpload");
  if (!status.ok()) {
    // The runtime keeps the last error; the next call must not find this one.
    cudaGetLastError();
    return status;
  }
  return absl::WrapUnique(new Graph(std::move(state)));
}

absl::Status Graph::Launch() const {
  return Check(cudaGraphLaunch(state_->executable, state_->context.stream), "cudaGraphLaunch");
}

}  // namespace isthmus::cuda
