// A stream on a GPU and what its operators share.
#ifndef ISTHMUS_RUNTIME_CUDA_CONTEXT_H_
#define ISTHMUS_RUNTIME_CUDA_CONTEXT_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>
#include <vector>

#include "runtime/cuda/scratch.h"

namespace isthmus::cuda {

struct Context {
  // The stream's scratch, which each operator may use from its start to its end.
  static constexpr int64_t kScratchBytes = kStreamScratchBytes;

  int ordinal = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 1;
  cudaStream_t stream = nullptr;
  void* scratch = nullptr;

  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  // Returns the one T of this stream, made on first use. It holds handles of libraries and what they have prepared.
  template <typename T>
  T& Service() const {
    const std::lock_guard<std::mutex> lock(services_mutex_);
    std::shared_ptr<void>& service = services_[std::type_index(typeid(T))];
    if (service == nullptr) service = std::make_shared<T>();
    return *static_cast<T*>(service.get());
  }

  // Adds a message that the user should read once, such as "attention: no plan". Repeating it changes nothing.
  void Note(const std::string& text) const;
  // Returns the notes since the last call.
  std::vector<std::string> TakeNotes() const;

 private:
  mutable std::mutex notes_mutex_;
  mutable std::set<std::string> noted_;
  mutable std::vector<std::string> notes_;
  mutable std::mutex services_mutex_;
  mutable std::unordered_map<std::type_index, std::shared_ptr<void>> services_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_CONTEXT_H_
