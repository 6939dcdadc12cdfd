// Reads the bytes of a file: plain, gzip (RFC 1952; also dictzip and bgzip) or Zstandard (RFC 8878; also pzstd). The
// first bytes tell which one it is.
//
// A source ends with all bytes that are in the file or with an error, never with fewer. Members of gzip and frames of
// Zstandard may follow each other and may be empty. Zeros may follow them up to the end of the file; anything else
// behind them is an error.
#ifndef ISTHMUS_RUNTIME_DATA_BYTE_SOURCE_H_
#define ISTHMUS_RUNTIME_DATA_BYTE_SOURCE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

namespace isthmus {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Reads between 1 and `capacity` bytes; returns 0 at the end. Errors: by errno; DataLoss for a file that became
  // shorter while it was read. Damaged or truncated compressed data is DataLoss, too, with the path and the byte.
  virtual absl::StatusOr<int64_t> Read(char* to, int64_t capacity) = 0;

  // Opens a file, pipe or device, which is read once from begin to end. Zstandard's decoder keeps a window in memory.
  // The window may be as large as the format's writers make it (2 GiB by `zstd --long=31`). Errors: by errno, naming
  // the path; DataLoss for a file whose name says that it is compressed, but which ends within its first bytes.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(const std::string& path);
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_BYTE_SOURCE_H_
