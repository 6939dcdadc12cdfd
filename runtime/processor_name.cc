#include "runtime/processor_name.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>

#include <fstream>

namespace isthmus {

std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(':');
    if (colon != std::string::npos && absl::StartsWith(line, "model name")) {
      return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
  }
  return "";
}

}  // namespace isthmus
