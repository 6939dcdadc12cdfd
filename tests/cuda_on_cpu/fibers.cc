// The threads of a block as fibers: each runs until it waits for others.
#include <cuda_runtime.h>

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "tests/cuda_on_cpu/device_memory.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace isthmus::cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr int kWarp = 32;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "cuda on cpu: block (%u, %u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
               threadIdx.x, what);
  std::abort();
}

struct Fiber {
  boost::context::fiber thread;     // while it waits
  boost::context::fiber scheduler;  // while it runs
  enum State { kRunning, kAtBlockBarrier, kInWarp, kDone } state = kRunning;
  int64_t exchanges = 0;  // warp collectives taken part in
};

struct Warp {
  uint64_t values[2][kWarp];
  int arrived = 0;
  int64_t completed = 0;
};

class Block {
 public:
  void Run(const std::function<void()>& thread, size_t threads, bool backwards) {
    if (threads % kWarp != 0) Fail("a block whose threads are no multiple of 32");
    fibers_.clear();
    fibers_.resize(threads);
    warps_.assign(threads / kWarp, Warp());
    barrier_arrived_ = done_ = 0;
    for (Fiber& fiber : fibers_) {
      fiber.thread =
          boost::context::fiber(std::allocator_arg, stacks_, [&fiber, &thread](boost::context::fiber&& scheduler) {
            fiber.scheduler = std::move(scheduler);
            thread();
            fiber.state = Fiber::kDone;
            return std::move(fiber.scheduler);
          });
    }
    while (done_ < threads) {
      bool moved = false;
      for (size_t turn = 0; turn < threads; ++turn) {
        const size_t i = backwards ? threads - 1 - turn : turn;
        if (!CanRun(i)) continue;
        moved = true;
        current_ = i;
        threadIdx = dim3(static_cast<unsigned>(i), 0, 0);
        fibers_[i].state = Fiber::kRunning;
        fibers_[i].thread = std::move(fibers_[i].thread).resume();
        if (fibers_[i].state == Fiber::kDone) ++done_;
      }
      if (!moved) Fail("threads wait for each other: one left a barrier or a warp's collective to the rest");
    }
  }

  void Barrier() {
    ++barrier_arrived_;
    if (barrier_arrived_ == fibers_.size()) {
      barrier_arrived_ = 0;
      for (Fiber& fiber : fibers_) {
        if (fiber.state == Fiber::kAtBlockBarrier) fiber.state = Fiber::kRunning;
      }
      return;
    }
    Wait(Fiber::kAtBlockBarrier);
  }

  const uint64_t* Exchange(uint64_t value) {
    Warp& warp = warps_[current_ / kWarp];
    Fiber& fiber = fibers_[current_];
    uint64_t* values = warp.values[fiber.exchanges % 2];
    ++fiber.exchanges;
    values[current_ % kWarp] = value;
    if (++warp.arrived == kWarp) {
      warp.arrived = 0;
      ++warp.completed;
    } else {
      Wait(Fiber::kInWarp);
    }
    return values;
  }

  int lane() const { return static_cast<int>(current_ % kWarp); }

 private:
  bool CanRun(size_t i) const {
    const Fiber& fiber = fibers_[i];
    if (fiber.state == Fiber::kInWarp) return warps_[i / kWarp].completed >= fiber.exchanges;
    return fiber.state == Fiber::kRunning;
  }

  void Wait(Fiber::State state) {
    Fiber& fiber = fibers_[current_];
    fiber.state = state;
    fiber.scheduler = std::move(fiber.scheduler).resume();
  }

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  size_t barrier_arrived_ = 0, done_ = 0, current_ = 0;
  boost::context::pooled_fixedsize_stack stacks_{kStackBytes};
};

Block& TheBlock() {
  static Block block;
  return block;
}

std::vector<float>& SharedMemory() {
  static std::vector<float> memory;
  return memory;
}

}  // namespace

void BlockBarrier() { TheBlock().Barrier(); }
const uint64_t* WarpExchange(uint64_t value) { return TheBlock().Exchange(value); }
int Lane() { return TheBlock().lane(); }
unsigned char* DynamicSharedMemory() { return reinterpret_cast<unsigned char*>(SharedMemory().data()); }

void Run(const dim3& blocks, const dim3& threads, size_t shared_bytes, const std::function<void()>& thread) {
  const DeviceMemoryAccess access;
  gridDim = blocks;
  blockDim = threads;
  // Threads run in ascending order in one launch and in descending order in the next. A missing barrier then goes wrong
  // in one of them.
  static bool backwards = false;
  backwards = !backwards;
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        blockIdx = dim3(x, y, z);
        SharedMemory().assign(shared_bytes / sizeof(float) + 1, std::numeric_limits<float>::quiet_NaN());
        TheBlock().Run(thread, size_t{threads.x} * threads.y * threads.z, backwards);
      }
    }
  }
}

}  // namespace isthmus::cuda_on_cpu
