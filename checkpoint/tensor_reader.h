// Reads rectangles of the tensors of a checkpoint, checking every byte that it uses.
#ifndef ISTHMUS_CHECKPOINT_TENSOR_READER_H_
#define ISTHMUS_CHECKPOINT_TENSOR_READER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/stored_file.h"
#include "parallel/shard.h"
#include "proto/checkpoint.pb.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace isthmus {

// Returns the dtype of that name. Errors: DataLoss.
absl::StatusOr<DType> StoredDType(const std::string& name);

class TensorReader {
 public:
  // There may be as many files as ranks that wrote them; a process may usually open 1,024.
  static constexpr size_t kMostOpen = 64;

  // `manifest` is as ReadManifest returns it; it must outlive the reader. The constructor opens no file.
  TensorReader(std::string folder, const proto::CheckpointManifest& manifest);
  ~TensorReader();
  TensorReader(const TensorReader&) = delete;
  TensorReader& operator=(const TensorReader&) = delete;

  // Copies rows and columns of a tensor of the manifest to `out` in host memory, [rows.size(), columns.size()],
  // converted to its dtype. Reads the chunks that overlap. After an error `out` may hold anything. Errors: DataLoss
  // naming file, tensor and offset; by errno for files. An error that other ranks can check carries its range of bytes
  // (checkpoint/stored_file.h).
  absl::Status Read(const proto::TensorEntry& tensor, Range rows, Range columns, const Tensor& out);

  // Returns the bytes of chunk `index` of a slice, checked; they stay until the next call.
  absl::StatusOr<Tensor> ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice, int index);

  // Reads and checks a file of the manifest with a checksum of its own.
  absl::Status CheckWholeFile(const proto::FileEntry& file) const;

 private:
  // Reads to `to`, or, without one, to bytes_.
  absl::StatusOr<Tensor> ReadChunk(const proto::TensorEntry& tensor, const proto::TensorSlice& slice, int index,
                                   char* to);
  // Errors: by errno; DataLoss when the file's size is not the manifest's.
  absl::StatusOr<StoredFile> Open(const std::string& file);
  // Returns the range of the whole file, with what the manifest says of it.
  StoredBytes PlaceOfFile(const std::string& file) const;
  // Closes the open file that was not used for longest.
  void CloseOne();

  struct OpenFile {
    StoredFile file;
    int64_t used = 0;  // when: a count of uses
  };
  std::string folder_;
  std::map<std::string, int64_t> sizes_;
  std::map<std::string, OpenFile> open_;  // at most kMostOpen
  int64_t uses_ = 0;
  std::vector<char> bytes_;
};

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_TENSOR_READER_H_
