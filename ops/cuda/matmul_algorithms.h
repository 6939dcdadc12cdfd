// Which of cuBLASLt's algorithms a matrix product on a GPU uses: the fastest of those that it proposes, measured once.
//
// Algorithms differ in how they cut a sum into parts, hence in rounding: the choice is a part of what a run's bits
// depend on. A measurement may come out differently the next time, so the choices are kept in a file and used again
// (launch/run/matmul_search.h): the same file, the same bits. All ranks must use the same choices, because replicated
// parameters stay replicas only as long as every rank computes the same bits.
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

// What an algorithm was chosen for, as text: GPU, version of cuBLASLt, shapes, types, strides and alignments of the
// operands; not their addresses.
std::string MatmulKey(const MatmulArgs& args, absl::string_view device, int64_t library_version);

// The largest power of two, 256 at most, that the address and every row of the tensor are multiples of, in bytes.
uint32_t RowAlignment(const ConstTensor& tensor);

// The file's contents: JSON. Parse accepts what Text makes. Errors: InvalidArgument for anything else, saying what.
std::string MatmulAlgorithmsText(const MatmulAlgorithms& algorithms);
absl::StatusOr<MatmulAlgorithms> ParseMatmulAlgorithms(absl::string_view text);

struct FastestCandidate {
  int index = 0;
  double seconds = 0;
};
// Of `count` candidates, best guess first, the fastest by `seconds`; an earlier one where the gain is below 2 %, so
// that noise changes little. Candidates that fail are passed over. Errors: the first one where all fail.
absl::StatusOr<FastestCandidate> ChooseFastest(int count,
                                               const std::function<absl::StatusOr<double>(int index)>& seconds);

// What products on the stream use from now on. A product that is not listed is measured when it is first met while
// `search` holds, which waits for the device; else the library's first proposal serves. No effect on the CPU.
void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, Stream& stream);
// What was set, with what was found since.
MatmulAlgorithms MatmulAlgorithmsOf(const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CUDA_MATMUL_ALGORITHMS_H_
