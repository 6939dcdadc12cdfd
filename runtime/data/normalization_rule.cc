#include "runtime/data/normalization_rule.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

namespace isthmus {
namespace {

// Reads the fields of a serialized protocol buffer message, one after another.
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}

  // Sets the number of the next field, and its bytes if it has a length. Returns false at the end, and where the rest
  // can't be read: Stopped() is true then.
  bool Next(uint64_t& number, std::string_view& bytes) {
    if (rest_.empty()) return false;
    stopped_ = !Field(number, bytes);
    return !stopped_;
  }
  bool Stopped() const { return stopped_; }

 private:
  // Groups, which nothing has used for long, are no fields here.
  bool Field(uint64_t& number, std::string_view& bytes) {
    const std::optional<uint64_t> tag = Integer();
    if (!tag.has_value() || *tag >> 32 != 0 || *tag >> 3 == 0) return false;
    number = *tag >> 3;
    bytes = {};
    switch (*tag & 7) {
      case 0:
        return Integer().has_value();
      case 1:
        return Take(8, bytes);
      case 2: {
        const std::optional<uint64_t> length = Integer();
        return length.has_value() && Take(*length, bytes);
      }
      case 5:
        return Take(4, bytes);
      default:
        return false;
    }
  }
  std::optional<uint64_t> Integer() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }
  bool Take(uint64_t count, std::string_view& bytes) {
    if (count > rest_.size()) return false;
    bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return true;
  }

  std::string_view rest_;
  bool stopped_ = false;
};

// A double-array trie (Aoe 1989) in the layout of Darts-clone. Its values are places in a text of strings that end with
// zero bytes. The check follows every path from the root.
class RuleTable {
 public:
  explicit RuleTable(std::string_view table) {
    uint32_t bytes = 0;
    if (table.size() < sizeof(bytes)) return;
    std::memcpy(&bytes, table.data(), sizeof(bytes));
    table.remove_prefix(sizeof(bytes));
    if (bytes >= table.size() || bytes % (kBlock * sizeof(uint32_t)) != 0) return;
    units_.resize(bytes / sizeof(uint32_t));
    std::memcpy(units_.data(), table.data(), bytes);
    strings_ = table.substr(bytes);
  }

  bool Sound() const {
    if (units_.empty() || strings_.back() != '\0') return false;
    std::vector<bool> seen(units_.size(), false);
    std::vector<size_t> open = {Offset(units_[0])};
    while (!open.empty()) {
      const size_t base = open.back();
      open.pop_back();
      if (base >= units_.size()) return false;
      if (seen[base]) continue;
      seen[base] = true;
      // The array has whole blocks, so it contains all units that differ only in the last byte.
      for (uint32_t byte = 0; byte < kBlock; ++byte) {
        const size_t at = base ^ byte;
        const uint32_t unit = units_[at];
        if ((unit & (0x80000000U | 0xFFU)) != byte) continue;
        const size_t next = at ^ Offset(unit);
        if (next >= units_.size()) return false;
        const bool has_value = (unit >> 8 & 1) != 0;
        if (has_value && (units_[next] & 0x7FFFFFFFU) >= strings_.size()) return false;
        open.push_back(next);
      }
    }
    return true;
  }

 private:
  static constexpr uint32_t kBlock = 256;
  static size_t Offset(uint32_t unit) { return size_t{unit >> 10} << ((unit & (1U << 9)) >> 6); }

  std::vector<uint32_t> units_;
  std::string_view strings_;
};

}  // namespace

std::string CheckNormalizationRules(std::string_view serialized_model) {
  // Fields in sentencepiece_model.proto: ModelProto's normalizer_spec and denormalizer_spec, and their
  // precompiled_charsmap.
  constexpr uint64_t kNormalizer = 3, kDenormalizer = 5, kTable = 2;
  // The library would go on, and find a table, where this reader stops.
  constexpr char kDamaged[] = "it is damaged or of another format";
  WireReader model(serialized_model);
  uint64_t number = 0;
  for (std::string_view spec; model.Next(number, spec);) {
    if (number != kNormalizer && number != kDenormalizer) continue;
    WireReader fields(spec);
    for (std::string_view table; fields.Next(number, table);) {
      if (number == kTable && !table.empty() && !RuleTable(table).Sound()) return "its normalization table is damaged";
    }
    if (fields.Stopped()) return kDamaged;
  }
  return model.Stopped() ? kDamaged : "";
}

}  // namespace isthmus
