// CRC-32C, the Castagnoli polynomial 0x1EDC6F41 (RFC 3720, appendix B.4), as TFRecord files use it.
#ifndef ISTHMUS_RUNTIME_CRC32C_H_
#define ISTHMUS_RUNTIME_CRC32C_H_

#include <absl/strings/string_view.h>

#include <cstdint>

namespace isthmus {

// Takes one byte at a time from a table. It serves telemetry, not checkpoints (those use XXH3).
uint32_t Crc32c(absl::string_view data);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CRC32C_H_
