#include "checkpoint/manifest_check.h"

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "checkpoint/model_tensors.h"
#include "checkpoint/stored_file.h"
#include "checkpoint/tensor_reader.h"
#include "runtime/dtype.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kLongestText = 256;

// Returns true for letters, digits and the separators in names of tensors. Nothing else may reach a path or a terminal.
bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kLongestText && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
         });
}

// Quotes text from the manifest for a message.
std::string Shown(absl::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 64)), text.size() > 64 ? "…\"" : "\"");
}

// Returns true if two slices share an element. A sweep over the rows keeps the columns of the slices on the current row
// in order. It takes n log n, as thousands of ranks make thousands of slices.
bool Overlap(const proto::TensorEntry& tensor) {
  std::vector<const proto::TensorSlice*> by_begin, by_end;
  for (const auto& slice : tensor.slices()) by_begin.push_back(&slice);
  by_end = by_begin;
  std::sort(by_begin.begin(), by_begin.end(), [](auto* a, auto* b) { return a->row_begin() < b->row_begin(); });
  std::sort(by_end.begin(), by_end.end(), [](auto* a, auto* b) { return a->row_end() < b->row_end(); });
  std::map<int64_t, int64_t> columns;  // begin and end
  size_t ended = 0;
  for (const auto* slice : by_begin) {
    for (; by_end[ended]->row_end() <= slice->row_begin(); ++ended) columns.erase(by_end[ended]->column_begin());
    const auto next = columns.lower_bound(slice->column_begin());
    if (next != columns.end() && next->first < slice->column_end()) return true;
    if (next != columns.begin() && std::prev(next)->second > slice->column_begin()) return true;
    columns.emplace(slice->column_begin(), slice->column_end());
  }
  return false;
}

class Check {
 public:
  Check(proto::CheckpointManifest& manifest, const std::string& path) : manifest_(manifest), path_(path) {}

  absl::Status Run() {
    ISTHMUS_RETURN_IF_ERROR(CheckCounts());
    ISTHMUS_RETURN_IF_ERROR(CheckStability());
    for (const auto& file : manifest_.files()) {
      if (const absl::Status name = CheckFileName(file.name()); !name.ok()) {
        return Fail(absl::StrCat("file ", Shown(file.name())), name.message());
      }
      if (file.bytes() < 0) return Fail(absl::StrCat("file ", file.name()), "has a negative size");
      if (!sizes_.emplace(file.name(), file.bytes()).second) {
        return Fail(absl::StrCat("file ", file.name()), "is there twice");
      }
    }
    std::set<std::pair<int, std::string>> names;
    for (auto& tensor : *manifest_.mutable_tensors()) {
      if (!IsName(tensor.name())) {
        return Fail(absl::StrCat("tensor ", Shown(tensor.name())),
                    "accepted as a name: letters, digits, '.', '_' and '-', up to 256");
      }
      ISTHMUS_RETURN_IF_ERROR(CheckTensor(tensor));
      if (!names.emplace(tensor.role(), tensor.name()).second) return Fail(tensor, "is there twice");
    }
    return CheckBytes();
  }

 private:
  absl::Status Fail(absl::string_view where, absl::string_view what) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", where, ": ", what));
  }
  absl::Status Fail(const proto::TensorEntry& tensor, absl::string_view what) const {
    return Fail(absl::StrCat("tensor ", TensorTitle(tensor.name(), tensor.role())), what);
  }

  absl::Status Between(int64_t least, int64_t most, absl::string_view field, int64_t found) const {
    if (found >= least && found <= most) return absl::OkStatus();
    return Fail(field, absl::StrCat(found, "; accepted: ", least, " to ", most));
  }

  absl::Status CheckCounts() const {
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "step", manifest_.step()));
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "samples", manifest_.samples()));
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "tokens", manifest_.tokens()));
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "training_samples", manifest_.training_samples()));
    const double seconds = manifest_.elapsed_seconds();
    if (!std::isfinite(seconds) || seconds < 0) {
      return Fail("elapsed_seconds", absl::StrCat(seconds, "; accepted: a finite number from 0 on"));
    }
    const std::string& version = manifest_.program_version();
    if (version.size() > kLongestText ||
        !std::all_of(version.begin(), version.end(), [](char c) { return c >= ' ' && c < 0x7f; })) {
      return Fail("program_version", absl::StrCat(Shown(version), "; accepted: up to 256 printable characters"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckStability() const {
    const proto::StabilityState& state = manifest_.stability();
    for (const auto* values : {&state.losses(), &state.gradient_norms()}) {
      const absl::string_view field = values == &state.losses() ? "stability.losses" : "stability.gradient_norms";
      ISTHMUS_RETURN_IF_ERROR(Between(0, kMostRemembered, field, values->size()));
      for (const double value : *values) {
        if (!std::isfinite(value)) return Fail(field, absl::StrCat(value, "; accepted: finite numbers"));
      }
    }
    int64_t passed_over = 0;
    for (const auto& refused : state.refused()) {
      ISTHMUS_RETURN_IF_ERROR(Between(1, kMostCounted, "stability.refused.step", refused.step()));
      ISTHMUS_RETURN_IF_ERROR(Between(1, kMostCounted, "stability.refused.batch", refused.batch()));
      ISTHMUS_RETURN_IF_ERROR(Between(1, std::min(refused.batch(), kMostPassedOver - passed_over),
                                      "stability.refused.batches", refused.batches()));
      passed_over += refused.batches();
    }
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "stability.non_finite_total", state.non_finite_total()));
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "stability.spikes_total", state.spikes_total()));
    ISTHMUS_RETURN_IF_ERROR(Between(0, kMostCounted, "stability.skipped_steps_total", state.skipped_steps_total()));
    return Between(0, kMostCounted, "stability.rollbacks_total", state.rollbacks_total());
  }

  // Checks that slices cover the tensor: they lie inside it, do not overlap, and have its size in sum.
  absl::Status CheckTensor(proto::TensorEntry& tensor) {
    const auto dtype = StoredDType(tensor.dtype());
    if (!dtype.ok()) return Fail(tensor, dtype.status().message());
    int64_t elements = 0, bytes = 0;
    if (tensor.rows() < 1 || tensor.columns() < 1 || tensor.columns() > kMostColumns ||
        __builtin_mul_overflow(tensor.rows(), tensor.columns(), &elements) ||
        __builtin_mul_overflow(elements, SizeOf(*dtype), &bytes)) {
      return Fail(tensor, absl::StrCat("[", tensor.rows(), ", ", tensor.columns(), "]; accepted: 1 to ", kMostColumns,
                                       " columns, and rows that make less than 2^63 bytes"));
    }
    for (auto& slice : *tensor.mutable_slices()) {
      ISTHMUS_RETURN_IF_ERROR(CheckSlice(tensor, slice, SizeOf(*dtype)));
      const int64_t size = (slice.row_end() - slice.row_begin()) * (slice.column_end() - slice.column_begin());
      if (size > elements) return Fail(tensor, "two slices overlap");
      elements -= size;
    }
    if (Overlap(tensor)) return Fail(tensor, "two slices overlap");
    if (elements != 0) return Fail(tensor, "its slices do not cover it");
    return absl::OkStatus();
  }

  absl::Status CheckSlice(const proto::TensorEntry& tensor, proto::TensorSlice& slice, int64_t element_bytes) {
    if (slice.row_begin() < 0 || slice.row_begin() >= slice.row_end() || slice.row_end() > tensor.rows() ||
        slice.column_begin() < 0 || slice.column_begin() >= slice.column_end() ||
        slice.column_end() > tensor.columns() || slice.offset() < 0) {
      return Fail(tensor, "a slice lies outside of the tensor");
    }
    if (const absl::Status name = CheckFileName(slice.file()); !name.ok()) {
      return Fail(tensor, absl::StrCat(Shown(slice.file()), ": ", name.message()));
    }
    // A tensor has less than 2^63 bytes, so nothing here overflows.
    const int64_t rows = slice.row_end() - slice.row_begin();
    const int64_t row_bytes = (slice.column_end() - slice.column_begin()) * element_bytes;
    const bool one_chunk = manifest_.version() == 1;
    if (one_chunk) {
      slice.set_chunk_rows(rows);
      slice.clear_chunk_checksums();
      slice.add_chunk_checksums(slice.checksum());
    }
    if (slice.chunk_rows() < 1 || (rows - 1) / slice.chunk_rows() + 1 != slice.chunk_checksums_size()) {
      return Fail(tensor, "a slice has another number of checksums than of chunks");
    }
    slice.set_chunk_rows(std::min(slice.chunk_rows(), rows));
    const int64_t chunk_bytes = slice.chunk_rows() * row_bytes, most = one_chunk ? kMostSliceBytes : kMostChunkBytes;
    if (chunk_bytes > most) {
      return Fail(tensor, absl::StrCat("a chunk of ", chunk_bytes, " bytes; accepted: at most ", most));
    }
    int64_t end = 0;
    if (__builtin_add_overflow(slice.offset(), rows * row_bytes, &end)) {
      return Fail(tensor, absl::StrCat("a slice at byte ", slice.offset(), " of ", slice.file(), ", ", rows * row_bytes,
                                       " bytes long; no file has so many"));
    }
    // Version 1 does not list its files.
    const auto size = sizes_.find(slice.file());
    if (size == sizes_.end() && !one_chunk) {
      return Fail(tensor, absl::StrCat("a slice is in ", slice.file(), ", which is not among the files"));
    }
    if (size != sizes_.end() && end > size->second) {
      return Fail(tensor, absl::StrCat("a slice ends at byte ", end, " of ", slice.file(), ", which has ", size->second,
                                       " bytes"));
    }
    ranges_.emplace_back(slice.file(), slice.offset(), end, &tensor);
    return absl::OkStatus();
  }

  // Without this check of all slices, small files could stand for large tensors.
  absl::Status CheckBytes() {
    std::sort(ranges_.begin(), ranges_.end());
    for (size_t i = 1; i < ranges_.size(); ++i) {
      const auto& [file, begin, end, tensor] = ranges_[i];
      const auto& [before_file, before_begin, before_end, before] = ranges_[i - 1];
      if (file != before_file || begin >= before_end) continue;
      return Fail(*tensor, absl::StrCat("its bytes at ", begin, " of ", file, " are also those of tensor ",
                                        TensorTitle(before->name(), before->role())));
    }
    return absl::OkStatus();
  }

  proto::CheckpointManifest& manifest_;
  const std::string& path_;
  std::map<std::string, int64_t> sizes_;                                                      // by file
  std::vector<std::tuple<std::string, int64_t, int64_t, const proto::TensorEntry*>> ranges_;  // file, begin, end
};

}  // namespace

absl::Status CheckManifest(proto::CheckpointManifest& manifest, const std::string& path) {
  return Check(manifest, path).Run();
}

}  // namespace isthmus
