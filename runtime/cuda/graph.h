// A CUDA graph made by capturing a stream. graph.cc implements it; in a build without CUDA, absent.cc does.
#ifndef ISTHMUS_RUNTIME_CUDA_GRAPH_H_
#define ISTHMUS_RUNTIME_CUDA_GRAPH_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>

namespace isthmus::cuda {

struct Context;

class Graph {
 public:
  // CapturedWork::Capture (runtime/captured_work.h) states the contract. `context` must outlive the graph.
  static absl::StatusOr<std::unique_ptr<Graph>> Capture(const Context& context,
                                                        const std::function<absl::Status()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  absl::Status Launch() const;

 private:
  struct State;
  explicit Graph(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_GRAPH_H_
