#include <absl/strings/str_cat.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "runtime/data/compressed_source.h"

namespace isthmus {
namespace {

class ZstdDecoder : public MemberDecoder {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
    if (context_ == nullptr) return;
    // Otherwise windows above 128 MiB are refused. Memory is taken for the window that a frame states.
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }

  absl::string_view name() const override { return "Zstandard"; }

  Progress Decode(absl::string_view in, char* to, size_t capacity) override {
    if (context_ == nullptr) return {.error = "there is no memory for its decoder"};
    ZSTD_inBuffer from = {in.data(), in.size(), 0};
    ZSTD_outBuffer out = {to, capacity, 0};
    const size_t result = ZSTD_decompressStream(context_.get(), &out, &from);
    Progress progress = {.taken = from.pos, .made = out.pos};
    if (ZSTD_isError(result)) {
      progress.refusal = Refusal(result);
      if (progress.refusal.empty()) progress.error = ZSTD_getErrorName(result);
    } else {
      progress.member_complete = result == 0;
    }
    return progress;
  }

 private:
  // Says why a sound frame can't be decoded, and what to do; empty for a damaged one.
  static std::string Refusal(size_t result) {
    const ZSTD_ErrorCode code = ZSTD_getErrorCode(result);
    if (code == ZSTD_error_dictionary_wrong) {
      return "were compressed with a dictionary (zstd -D); compress them again without one";
    }
    if (code == ZSTD_error_frameParameter_windowTooLarge || code == ZSTD_error_memory_allocation) {
      return absl::StrCat("have a window that takes more memory than there is, or than 2 GiB (",
                          ZSTD_getErrorName(result), "); compress the text again without --long");
    }
    return "";
  }

  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
};

}  // namespace

std::unique_ptr<ByteSource> ZstdSource(const std::string& path, std::unique_ptr<ByteSource> file) {
  return std::make_unique<CompressedSource>(path, std::move(file), std::make_unique<ZstdDecoder>());
}

}  // namespace isthmus
