// The choice among cuBLASLt's algorithms for a matrix product on a GPU: the fastest of its proposals, measured once.
//
// Algorithms differ in how they cut a sum into parts, hence in rounding: a run's bits depend on the choice. A
// measurement may come out differently the next time. The choices are therefore kept in a file and used again
// (launch/run/matmul_search.h): the same file gives the same bits. All ranks must use the same choices, because
// replicated parameters stay replicas only as long as every rank computes the same bits.
//
// Products on the CPU (oneDNN, Eigen) have nothing to choose. Nothing here needs CUDA: it is part of every build.
#ifndef ISTHMUS_OPS_CUDA_MATMUL_ALGORITHMS_H_
#define ISTHMUS_OPS_CUDA_MATMUL_ALGORITHMS_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "ops/matmul.h"
#include "runtime/stream.h"

namespace isthmus {

struct MatmulAlgorithm {
  std::array<uint64_t, 8> words{};  // cublasLtMatmulAlgo_t, valid for one version of the library
  double seconds = 0;               // of the product, as measured
  friend bool operator==(const MatmulAlgorithm&, const MatmulAlgorithm&) = default;
};
using MatmulAlgorithms = std::map<std::string, MatmulAlgorithm>;  // by MatmulKey

// The key of a choice, as text: GPU, version of cuBLASLt, shapes, types, strides and alignments of the operands. It
// leaves out their addresses.
std::string MatmulKey(const MatmulArgs& args, absl::string_view device, int64_t library_version);

// The largest power of two, at most 256, of which the address and every row of the tensor are multiples, in bytes.
uint32_t RowAlignment(const ConstTensor& tensor);

// The file's contents in JSON. Parse accepts the output of Text. Errors: InvalidArgument, with the reason, for anything
// else.
std::string MatmulAlgorithmsText(const MatmulAlgorithms& algorithms);
absl::StatusOr<MatmulAlgorithms> ParseMatmulAlgorithms(absl::string_view text);

struct FastestCandidate {
  int index = 0;
  double seconds = 0;
};
// Measures `count` candidates, best guess first, and returns the fastest by `seconds`. An earlier one wins where the
// gain is below 2 %, so that noise changes little. Candidates that fail are passed over. Errors: the first one if all
// fail.
absl::StatusOr<FastestCandidate> ChooseFastest(int count,
                                               const std::function<absl::StatusOr<double>(int index)>& seconds);

// Sets the algorithms that products on the stream use from now on. While `search` holds, an unlisted product is
// measured when it is first met, which waits for the device. Otherwise it takes the library's first proposal. On the
// CPU this has no effect.
void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, Stream& stream);
// The algorithms that were set, and those found since.
MatmulAlgorithms MatmulAlgorithmsOf(const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CUDA_MATMUL_ALGORITHMS_H_
