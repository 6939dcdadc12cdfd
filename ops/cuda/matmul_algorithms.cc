#include "ops/cuda/matmul_algorithms.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "ops/cuda/matmul_choices.h"
#include "runtime/backends.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kFormat[] = "isthmus matrix product algorithms";
constexpr int kVersion = 1;
// The factor by which a later candidate must be faster.
constexpr double kWorthwhile = 0.98;

std::string OperandText(const ConstTensor& tensor, bool transposed) {
  return absl::StrCat(tensor.Describe(), transposed ? "ᵀ" : "", " stride ", tensor.row_stride, " alignment ",
                      RowAlignment(tensor));
}

std::string WordsText(const std::array<uint64_t, 8>& words) {
  std::string text;
  for (const uint64_t word : words) absl::StrAppend(&text, text.empty() ? "" : " ", absl::Hex(word, absl::kZeroPad16));
  return text;
}

bool ParseWords(const std::string& text, std::array<uint64_t, 8>& words) {
  const std::vector<std::string> parts = absl::StrSplit(text, ' ');
  if (parts.size() != words.size()) return false;
  for (size_t i = 0; i < words.size(); ++i) {
    if (parts[i].size() != 16 || !absl::SimpleHexAtoi(parts[i], &words[i])) return false;
  }
  return true;
}

absl::Status Unreadable(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, "; accepted: version ", kVersion, " of \"", kFormat, "\""));
}

}  // namespace

uint32_t RowAlignment(const ConstTensor& tensor) {
  auto bits = reinterpret_cast<uintptr_t>(tensor.data) | 256U;
  if (tensor.rows > 1) bits |= static_cast<uintptr_t>(tensor.row_stride * SizeOf(tensor.dtype));
  return static_cast<uint32_t>(bits & (~bits + 1));
}

std::string MatmulKey(const MatmulArgs& args, absl::string_view device, int64_t library_version) {
  return absl::StrCat(device, ", cuBLASLt ", library_version, ": ", OperandText(args.c, false),
                      args.accumulate ? " += " : " = ", OperandText(args.a, args.transpose_a), " · ",
                      OperandText(args.b, args.transpose_b));
}

std::string MatmulAlgorithmsText(const MatmulAlgorithms& algorithms) {
  nlohmann::ordered_json file;
  file["format"] = kFormat;
  file["version"] = kVersion;
  auto& list = file["algorithms"] = nlohmann::ordered_json::object();
  for (const auto& [key, algorithm] : algorithms) {
    list[key] = {{"words", WordsText(algorithm.words)}, {"seconds", algorithm.seconds}};
  }
  return file.dump(1) + "\n";
}

absl::StatusOr<MatmulAlgorithms> ParseMatmulAlgorithms(absl::string_view text) {
  const auto file = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return Unreadable("found no JSON object");
  const auto format = file.find("format"), version = file.find("version"), list = file.find("algorithms");
  if (format == file.end() || *format != kFormat) return Unreadable("found another format");
  if (version == file.end() || *version != kVersion) {
    const bool number = version != file.end() && version->is_number();
    return Unreadable(absl::StrCat("found version ", number ? version->dump() : "none"));
  }
  if (list == file.end() || !list->is_object()) return Unreadable("found no list of algorithms");
  MatmulAlgorithms algorithms;
  for (const auto& [key, entry] : list->items()) {
    MatmulAlgorithm algorithm;
    const bool complete = entry.is_object() && entry.contains("words") && entry["words"].is_string() &&
                          entry.contains("seconds") && entry["seconds"].is_number();
    if (!complete || !ParseWords(entry["words"].get<std::string>(), algorithm.words)) {
      return Unreadable(absl::StrCat("found no algorithm for \"", key, "\""));
    }
    algorithm.seconds = entry["seconds"].get<double>();
    algorithms.emplace(key, algorithm);
  }
  return algorithms;
}

absl::StatusOr<FastestCandidate> ChooseFastest(int count,
                                               const std::function<absl::StatusOr<double>(int index)>& seconds) {
  absl::Status failure;
  FastestCandidate best{-1, 0};
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<double> measured = seconds(i);
    if (measured.ok() && !(std::isfinite(*measured) && *measured > 0)) {
      measured = absl::InternalError(absl::StrCat("a product that lasts ", *measured, " seconds"));
    }
    if (!measured.ok()) {
      failure.Update(measured.status());
    } else if (best.index < 0 || *measured < kWorthwhile * best.seconds) {
      best = {i, *measured};
    }
  }
  if (best.index >= 0) return best;
  return failure.ok() ? absl::InvalidArgumentError("no candidates to choose from") : failure;
}

void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, Stream& stream) {
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) cuda::SetMatmulAlgorithms(std::move(algorithms), search, stream.cuda());
  }
}

MatmulAlgorithms MatmulAlgorithmsOf(const Stream& stream) {
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return cuda::MatmulAlgorithmsOf(stream.cuda());
  }
  return {};
}

}  // namespace isthmus
